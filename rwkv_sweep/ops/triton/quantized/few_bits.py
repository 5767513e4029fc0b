"""Weights in few bits to numbers in registers, and whole weights dequantized in one pass over memory.

Shapes: G layers of one shape, K inputs, N outputs.
"""

from __future__ import annotations

import triton
import triton.language as tl

PLAIN, INT8, FOUR_BITS, ROWS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
"""Weights in the inputs' dtype; int8; codes of 4 bits; weights and inputs both in 8 bits, scaled row by row."""
SLAB, GROUP = tl.constexpr(128), tl.constexpr(64)
"""Columns whose codes share 64 bytes, the first half in the low bits and the second in the high ones; columns of one
scale."""


@triton.jit
def numbers_of(words, instructions: tl.constexpr, kind: tl.constexpr, dtype: tl.constexpr):
    """Words [N, W] (int16) with two int8 or four codes each to two or four tiles [N, W] of their numbers in `dtype`,
    those of the low bits first, by `instructions` of `register_numbers`."""
    if kind == FOUR_BITS:
        if dtype == tl.bfloat16:
            numbers = tl.inline_asm_elementwise(
                instructions,
                "=r,=r,=r,=r,r",
                [words],
                dtype=(tl.bfloat16, tl.bfloat16, tl.bfloat16, tl.bfloat16),
                is_pure=True,
                pack=2,
            )
        else:
            numbers = tl.inline_asm_elementwise(
                instructions,
                "=r,=r,=r,=r,r",
                [words],
                dtype=(tl.float16, tl.float16, tl.float16, tl.float16),
                is_pure=True,
                pack=2,
            )
    else:
        if dtype == tl.bfloat16:
            numbers = tl.inline_asm_elementwise(
                instructions, "=r,=r,r", [words], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=2
            )
        else:
            numbers = tl.inline_asm_elementwise(
                instructions, "=r,=r,r", [words], dtype=(tl.float16, tl.float16), is_pure=True, pack=2
            )
    return numbers


@triton.jit
def of_group(
    scale_ptr, second_ptr, table_ptr, offset, at, flat, nested: tl.constexpr, shifted: tl.constexpr, dtype: tl.constexpr
):
    """Factor and summand of a group of columns for some outputs: w = number of the code * factor + summand.

    They are at `at` of scale [K / 64, N]: the factor in fp32, or, where `shifted`, the bits of both in an int32, in
    `dtype`, the factor in the lower half. Where `nested`, the uint8 at `flat` of scale [N, K / 64] is a place of table
    [256], and factor = table[it] * second[flat // 256] + offset, all fp32.
    """
    if nested:
        code = tl.load(scale_ptr + flat).to(tl.int32)
        factor = tl.load(table_ptr + code) * tl.load(second_ptr + flat // 256) + offset
        summand = 0.0
    elif shifted:
        word = tl.load(scale_ptr + at)
        factor = word.to(tl.int16).to(dtype, bitcast=True)
        summand = (word >> 16).to(tl.int16).to(dtype, bitcast=True)
    else:
        factor = tl.load(scale_ptr + at)
        summand = 0.0
    return factor, summand


@triton.jit
def scaled(numbers, factor, summand, shifted: tl.constexpr, dtype: tl.constexpr):
    """numbers * factor, where `shifted` + summand: a tile [N, W] in `dtype`, factor and summand [N] of `of_group`."""
    if shifted:
        made = numbers * factor[:, None] + summand[:, None]
    else:
        made = numbers * factor.to(dtype)[:, None]
    return made


@triton.jit
def dequantize_kernel(
    weight_ptr,
    scale_ptr,
    second_ptr,
    table_ptr,
    offset,
    out_ptr,
    inner: tl.constexpr,
    outputs: tl.constexpr,
    rows: tl.constexpr,
    kind: tl.constexpr,
    instructions: tl.constexpr,
    nested: tl.constexpr,
    shifted: tl.constexpr,
):
    """out [G, N, K] (fp16 or bf16) = the numbers of weight, scaled: w = number * scale, or as `of_group` has it.

    weight (words of int16), scale, second and table are those of `few_tokens_kernel`: [G, N, K / 2] with [G, N],
    or [G, N, K / 4] with [G, K / 64, N]. One program for a slab of columns of `rows` outputs.
    """
    group = tl.program_id(2).to(tl.int64)
    slab = tl.program_id(1)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    inside = (row < outputs)[:, None]
    from_row = group * outputs + tl.minimum(row, outputs - 1)
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    wide: tl.constexpr = SLAB // 2 if kind == INT8 else SLAB // 4
    place = tl.arange(0, wide)
    words = tl.load(weight_ptr + (from_row[:, None] * (inner // SLAB) + slab) * wide + place[None, :])
    out_at = out_ptr + from_row[:, None] * inner + slab * SLAB + place[None, :]
    if kind == INT8:
        scale = tl.load(scale_ptr + from_row).to(tl.float32)[:, None]
        n0, n1 = numbers_of(words, instructions, kind, dtype)
        tl.store(out_at, (n0.to(tl.float32) * scale).to(dtype), mask=inside)
        tl.store(out_at + wide, (n1.to(tl.float32) * scale).to(dtype), mask=inside)
    else:
        at = (group * (inner // GROUP) + 2 * slab) * outputs + tl.minimum(row, outputs - 1)
        flat = from_row * (inner // GROUP) + 2 * slab
        factor, summand = of_group(scale_ptr, second_ptr, table_ptr, offset, at, flat, nested, shifted, dtype)
        at += outputs
        factor2, summand2 = of_group(scale_ptr, second_ptr, table_ptr, offset, at, flat + 1, nested, shifted, dtype)
        n0, n1, n2, n3 = numbers_of(words, instructions, kind, dtype)
        tl.store(out_at, scaled(n0, factor, summand, shifted, dtype), mask=inside)
        tl.store(out_at + wide, scaled(n1, factor, summand, shifted, dtype), mask=inside)
        tl.store(out_at + 2 * wide, scaled(n2, factor2, summand2, shifted, dtype), mask=inside)
        tl.store(out_at + 3 * wide, scaled(n3, factor2, summand2, shifted, dtype), mask=inside)
