"""Exponential, sigmoid and tanh in the hardware's own instructions.

Triton's own keep numbers below 1e-38 alive and divide exactly, at several instructions each; in the kernels here, which
are bound by the number of instructions, that costs more than all their GEMMs.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def exp(x):
    """exp(x) = 2 ** (x * log2(e)), fp32, to 2 units in the last place; 0 where it is below 1e-38."""
    return tl.inline_asm_elementwise(
        "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x * LOG2_E], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def sigmoid(x):
    """sigmoid(x) = 1 / (1 + exp(-x)), fp32, to about 2 units in the last place."""
    return tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=f,f", [1.0 + exp(-x)], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def tanh(x, dtype: tl.constexpr):
    """tanh(x) of an fp32 x, in `dtype`: to 1e-7 in fp32, to 5e-4 of its size where it is rounded to 16 bits."""
    if dtype == tl.float32:
        return 2.0 * sigmoid(2.0 * x) - 1.0
    result = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    return result.to(dtype)


@triton.jit
def scaled_sigmoid(x, bias, scale: tl.constexpr, exact: tl.constexpr):
    """scale / (1 + exp(-x - bias)) in fp32: to about 2 units in the last place where `exact`, else to 3e-4 of `scale`
    in three instructions."""
    if exact:
        return scale * sigmoid(x + bias)
    curved = tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=f,f", [x * 0.5 + bias * 0.5], dtype=tl.float32, is_pure=True, pack=1
    )
    return curved * (0.5 * scale) + 0.5 * scale


@triton.jit
def exp2(x):
    """2 ** x in fp32 to 2 units in the last place; 0 where it is below 1e-38."""
    return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def reciprocal(x):
    """x ** -1 in fp32 to 1 unit in the last place."""
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
