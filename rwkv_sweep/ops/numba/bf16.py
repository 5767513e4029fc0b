"""bf16 in Numba kernels, which lack it: a number is the upper half of an fp32 number, held as uint16. A kernel written
with these functions takes arrays of fp32 and of bf16; Numba compiles it for the dtypes that it is called with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from rwkv_sweep.ops.numba.compiling import inlined

BELOW_HALF = np.int32(0x7FFF)
"""With the lowest bit that bf16 keeps, what rounds fp32's bits to the nearest bf16 number, ties to even."""
SIXTEEN, BIT = np.int32(16), np.int32(1)
QUIET_NAN = 0x7FC0


def same_dtype(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors as one compiled form of a kernel takes them: all bf16 where all are, else all fp32; contiguous."""
    if all(x is None or x.dtype == torch.bfloat16 for x in tensors):
        return [None if x is None else x.contiguous() for x in tensors]
    return [None if x is None else x.float().contiguous() for x in tensors]


@intrinsic
def bits_of(context: Any, x: Any) -> Any:
    """The 32 bits of an fp32 number."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@inlined
def finite_bf16(x: Any) -> Any:
    """The 16 bits, int16, of bf16(x) for a finite fp32 x, ties to even."""
    bits: Any = bits_of(x)  # type: ignore[call-arg]
    return np.int16((bits + BELOW_HALF + ((bits >> SIXTEEN) & BIT)) >> SIXTEEN)


@intrinsic
def widened(context: Any, x: Any) -> Any:
    """The fp32 number that x is: itself, or the bf16 number with its 16 bits."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[0] == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32 if x == types.float32 else types.uint16), generate


@intrinsic
def narrowed(context: Any, x: Any, array: Any) -> Any:
    """The fp32 number x as `array` keeps it: itself, or the 16 bits of the nearest bf16 number, ties to even; NaN stays
    NaN."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, word, half = arguments[0], ir.IntType(32), ir.IntType(16)
        if signature.return_type == types.float32:
            return value
        bits = builder.bitcast(value, word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(word, int(BELOW_HALF))), odd)
        kept = builder.trunc(builder.lshr(rounded, ir.Constant(word, 16)), half)
        return builder.select(builder.fcmp_unordered("uno", value, value), ir.Constant(half, QUIET_NAN), kept)

    return array.dtype(types.float32, array), generate
