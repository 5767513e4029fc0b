"""The PTX that makes numbers of packed weights, run by an interpreter of its few instructions, for every code."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from rwkv_sweep.ops.triton.quantized.register_numbers import (
    instructions_of_int8,
    instructions_of_integers,
    instructions_of_table,
)

DTYPES = [torch.float16, torch.bfloat16]
NF4 = (*np.linspace(-1, 0.86, 15).tolist(), 1.0)
MASK = 0xFFFFFFFF


def prmt(low: int, high: int, selector: int) -> int:
    """PTX ISA, 9.7.9.7: four bytes out of eight; a selector's highest bit spreads the sign of its byte."""
    pool = [(high << 32 | low) >> 8 * place & 0xFF for place in range(8)]
    made = 0
    for place in range(4):
        nibble = selector >> 4 * place & 0xF
        byte = pool[nibble & 7]
        if nibble & 8:
            byte = 0xFF if byte & 0x80 else 0
        made |= byte << 8 * place
    return made


def lop3(first: int, second: int, third: int, table: int) -> int:
    """PTX ISA, 9.7.8.6: in every place, the bit of the table whose number the three bits are."""
    made = 0
    for index in range(8):
        if table >> index & 1:
            bits = (first, second, third)
            chosen = (bit if index >> 2 - place & 1 else ~bit for place, bit in enumerate(bits))
            made |= functools.reduce(operator.and_, chosen)
    return made & MASK


def halves(register: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor([register & 0xFFFF, register >> 16]).to(torch.int16).view(dtype)


def fma(first: int, second: int, third: int, dtype: torch.dtype) -> int:
    exact = halves(first, dtype).double() * halves(second, dtype).double() + halves(third, dtype).double()
    low, high = (int(bits) & 0xFFFF for bits in exact.to(dtype).view(torch.int16))
    return high << 16 | low


OPERATIONS: dict[str, Callable[..., int]] = {
    "mov": lambda a: a,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "shl": operator.lshift,
    "shr": operator.rshift,
    "prmt": prmt,
    "lop3": lop3,
}


def run(instructions: str, dtype: torch.dtype, name: str, register: int) -> dict[str, int]:
    """The registers after these instructions, with `register` in `name`."""
    registers = {name: register}

    def value(operand: str) -> int:
        return int(operand, 0) if operand[0].isdigit() else registers[operand]

    for line in re.sub(r"\{ \.reg[^;]*;|\}", "", instructions).split(";"):
        if not line.strip():
            continue
        operation, rest = line.split(maxsplit=1)
        out, *operands = (operand.strip() for operand in rest.split(","))
        values = [value(operand) for operand in operands]
        kind = operation.split(".")[0]
        registers[out] = (fma(*values, dtype) if kind == "fma" else OPERATIONS[kind](*values)) & MASK
    return registers


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_int8(dtype: torch.dtype) -> None:
    for number in range(-128, 128):
        other = -1 - number
        low, high = number & 0xFF | (other & 0xFF) << 8, other & 0xFF | (number & 0xFF) << 8
        registers = run(instructions_of_int8(dtype), dtype, "$2", high << 16 | low)
        assert halves(registers["$0"], dtype).tolist() == [number, other]
        assert halves(registers["$1"], dtype).tolist() == [other, number]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", [None, NF4, tuple(-number for number in NF4)], ids=["integers", "table", "reversed"])
def test_every_code_in_every_place(table: tuple[float, ...] | None, dtype: torch.dtype) -> None:
    instructions = instructions_of_integers(dtype) if table is None else instructions_of_table(table, dtype)
    numbers = torch.tensor(table or range(16), dtype=torch.float64).to(dtype).tolist()
    random = np.random.default_rng(0)
    for _ in range(64):
        codes = random.permutation(16)[:8]
        register = sum(int(code) << 4 * place for place, code in enumerate(codes))
        registers = run(instructions, dtype, "$4", register)
        for place in range(4):
            expected = [numbers[codes[place]], numbers[codes[4 + place]]]
            assert halves(registers[f"${place}"], dtype).tolist() == expected
