"""PTX that turns words of weights into fp16 or bf16 in registers, two words of 16 bits at a time.

Integers are put into the low bits of a float whose unit is 1, and that float's own size is taken off again, which is
exact. fp16 holds 1024 + u for every byte u (0x6400 + u); bf16 holds 128 + m for 7 bits m (0x4300 + m), so the sign bit
of an int8 goes into what is taken off: 128 (0xC300) or 256 (0xC380).

Tables of sixteen numbers: the instruction `prmt` picks four bytes out of eight by four selectors of 4 bits, of which
three bits choose. So four codes at once find one byte of their numbers among the first eight, and what must be changed
for the last eight.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

ONES = {torch.float16: "0x3C003C00", torch.bfloat16: "0x3F803F80"}
AND_OR = "0xEA"
"""The table of (a & b) | c, for `lop3`."""
PACKED = {torch.float16: "f16x2", torch.bfloat16: "bf16x2"}


def instructions_of_int8(dtype: torch.dtype) -> str:
    """PTX from two words of two int8 each ($2) to the numbers of their low bytes ($0) and of their high ones ($1)."""
    lines = ["{ .reg .b32 u, v, c, one, upper, below;", f"mov.b32 one, {ONES[dtype]};"]
    lines += ["mov.b32 upper, 0x43004300;", "mov.b32 below, 0xC300C300;"]
    for out, shift in (("$0", 0), ("$1", 8)):
        lines.append(f"shr.b32 u, $2, {shift};" if shift else "mov.b32 u, $2;")
        if dtype == torch.float16:
            lines += [
                "xor.b32 u, u, 0x00800080;",
                "and.b32 u, u, 0x00FF00FF;",
                "or.b32 v, u, 0x64006400;",
                "mov.b32 c, 0xE480E480;",
            ]
        else:
            lines += [
                f"lop3.b32 v, u, 0x007F007F, upper, {AND_OR};",
                f"lop3.b32 c, u, 0x00800080, below, {AND_OR};",
            ]
        lines.append(f"fma.rn.{PACKED[dtype]} {out}, v, one, c;")
    return " ".join([*lines, "}"])


def instructions_of_integers(dtype: torch.dtype) -> str:
    """As `instructions_of_table` for the numbers 0 to 15."""
    upper, taken = ("0x64006400", "0xE400E400") if dtype == torch.float16 else ("0x43004300", "0xC300C300")
    lines = ["{ .reg .b32 v, c, one, upper;", f"mov.b32 c, {taken};", f"mov.b32 one, {ONES[dtype]};"]
    lines.append(f"mov.b32 upper, {upper};")
    for place in range(4):
        lines += [f"shr.b32 v, $4, {4 * place};" if place else "mov.b32 v, $4;"]
        lines += [f"lop3.b32 v, v, 0x000F000F, upper, {AND_OR};", f"fma.rn.{PACKED[dtype]} ${place}, v, one, c;"]
    return " ".join([*lines, "}"])


@functools.cache
def instructions_of_table(numbers: tuple[float, ...], dtype: torch.dtype) -> str:
    """PTX from two words of four codes each ($4) to the numbers of their first codes ($0), the lowest bits, to those of
    their fourth ($3), rounded to `dtype` (fp16 or bf16)."""
    bits = torch.tensor(numbers, dtype=torch.float64).to(dtype).view(torch.int16).tolist()
    tables = {"l": [number & 0xFF for number in bits], "h": [number >> 8 & 0xFF for number in bits]}
    lines = ["{ .reg .b32 sel, pick, m, t, a, x, l, h, p0, p1, q0, q1;"]
    for word, outs in enumerate((("p0", "p1"), ("q0", "q1"))):
        lines.append("shr.b32 pick, $4, 16;" if word else "mov.b32 pick, $4;")
        lines += [
            "and.b32 sel, pick, 0x7777;",
            # A selector's highest bit asks for the sign of the byte eight times: 0xFF where it is set, else 0x80.
            "prmt.b32 m, 0x80808080, 0x80808080, pick;",
            "and.b32 t, m, 0x7F7F7F7F;",
            "shl.b32 m, t, 1;",
            "or.b32 m, m, t;",
        ]
        for name, table in tables.items():
            changed = [after ^ before for before, after in zip(table[:8], table[8:], strict=True)]
            lines += [
                f"prmt.b32 a, {_word(table[0:4])}, {_word(table[4:8])}, sel;",
                f"prmt.b32 x, {_word(changed[0:4])}, {_word(changed[4:8])}, sel;",
                "and.b32 x, x, m;",
                f"xor.b32 {name}, a, x;",
            ]
        lines += [f"prmt.b32 {outs[0]}, l, h, 0x5140;", f"prmt.b32 {outs[1]}, l, h, 0x7362;"]
    for out, first, second, sides in (
        ("$0", "p0", "q0", "0x5410"),
        ("$1", "p0", "q0", "0x7632"),
        ("$2", "p1", "q1", "0x5410"),
        ("$3", "p1", "q1", "0x7632"),
    ):
        lines.append(f"prmt.b32 {out}, {first}, {second}, {sides};")
    return " ".join([*lines, "}"])


def _word(entries: Sequence[int]) -> str:
    return hex(sum(entry << 8 * place for place, entry in enumerate(entries)))
