"""The kernel of `residual`: add, norm, shift and mix, a token or a span of tokens a program.

Shapes: T packed tokens, D hidden size, N spans of tokens.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.common.dependent_launch import launch_dependents, wait_for_earlier
from rwkv_sweep.ops.triton.common.fast_math import sigmoid
from rwkv_sweep.ops.triton.quantized.quantize_rows import quantized_row


@triton.jit
def _stream(h_ptr, value_ptr, gate_ptr, row, cols, mask, scale, width, added, gated):
    """h + sigmoid(gate) * value * scale for one row [D] of h, value and gate [T, D], in fp32; without gate, or without
    value too, as the flags say."""
    at = tl.cast(row, tl.int64) * width + cols
    h = tl.load(h_ptr + at, mask=mask, other=0.0)
    if added:
        value = tl.load(value_ptr + at, mask=mask, other=0.0).to(tl.float32) * scale
        if gated:
            value = value * sigmoid(tl.load(gate_ptr + at, mask=mask, other=0.0).to(tl.float32))
        h += value
    return h


@triton.jit
def _normed(h, weight, bias, mask, width, eps):
    """Layer norm (h - mean) * rstd * weight + bias of a row [D], fp32, with mean and rstd."""
    mean = tl.sum(h, 0) / width
    centred = tl.where(mask, h - mean, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / width + eps)
    return centred * rstd * weight + bias, mean, rstd


@triton.jit
def _store_mix(
    index: tl.constexpr,
    mixed,
    x_ptr,
    row_scale_ptr,
    tokens,
    row,
    cols,
    mask,
    width: tl.constexpr,
    quantized: tl.constexpr,
    largest: tl.constexpr,
    integers: tl.constexpr,
    rounding: tl.constexpr,
):
    """x[index, row] = mixed [D], fp32, in the dtype of x [count, T, D]; where `quantized`, as the 8-bit row of
    `quantized_row`, whose scale goes to row_scale [count, T], fp32.
    """
    if quantized:
        mixed, row_scale = quantized_row(mixed, largest, integers, rounding)
        tl.store(row_scale_ptr + index * tokens + row, row_scale)
    at = (index * tl.cast(tokens, tl.int64) + row) * width + cols
    tl.store(x_ptr + at, mixed.to(x_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["tokens"])
def residual_kernel(
    h_ptr,
    value_ptr,
    gate_ptr,
    weight_ptr,
    bias_ptr,
    mix0_ptr,
    mix1_ptr,
    mix2_ptr,
    mix3_ptr,
    first_ptr,
    spans_ptr,
    out_ptr,
    x_ptr,
    mean_ptr,
    rstd_ptr,
    row_scale_ptr,
    sums_ptr,
    amax_ptr,
    tokens,
    scale,
    eps,
    width: tl.constexpr,
    block: tl.constexpr,
    table: tl.constexpr,
    added: tl.constexpr,
    gated: tl.constexpr,
    count: tl.constexpr,
    summed: tl.constexpr,
    measured: tl.constexpr,
    quantized: tl.constexpr,
    largest: tl.constexpr,
    integers: tl.constexpr,
    rounding: tl.constexpr,
    dependent: tl.constexpr,
):
    """out = h + sigmoid(gate) * value * scale, its layer norm, and `count` token-shift interpolations of that norm.

    With n the norm of out: x[m] = n + (n of the token before - n) * mix[m], as `models.rwkv6.blocks` computes it. h and
    out [T, D] are fp32, value and gate [T, D] of any float dtype, weight, bias and mix0, mix1, ... [D] fp32. first [T]
    (int8) is 1 where a sentence starts, whose token before counts as zeros. x [count, T, D] has its own dtype; 8-bit
    rows come with row_scale [count, T], fp32 (see `quantized_row`). mean, rstd and, where `measured`, amax (the largest
    size in a row of n) are [T], fp32.

    One program a token; with `table`, one for each of spans [N, 2] (int32: first row, end), each within one sentence,
    and where `summed`, sums [N, D] (fp32) of out over each.
    """
    if dependent:
        launch_dependents()
    program = tl.program_id(0)
    if table:
        start = tl.load(spans_ptr + 2 * program)
        end = tl.load(spans_ptr + 2 * program + 1)
    else:
        start = program
        end = program + 1
    cols = tl.arange(0, block)
    mask = cols < width
    before = tl.zeros([block], tl.float32)
    if count > 0:
        weight = tl.load(weight_ptr + cols, mask=mask, other=0.0)
        bias = tl.load(bias_ptr + cols, mask=mask, other=0.0)
        mix0 = tl.load(mix0_ptr + cols, mask=mask, other=0.0)
        if count > 1:
            mix1 = tl.load(mix1_ptr + cols, mask=mask, other=0.0)
        if count > 2:
            mix2 = tl.load(mix2_ptr + cols, mask=mask, other=0.0)
        if count > 3:
            mix3 = tl.load(mix3_ptr + cols, mask=mask, other=0.0)
    # Weights are read before: they are no earlier kernel's result.
    if dependent:
        wait_for_earlier()
    if count > 0:  # noqa: SIM102 (a constant, and a number of the device)
        # A span is inside one sentence, so only its first row can be a sentence's first.
        if tl.load(first_ptr + start) == 0:
            h = _stream(h_ptr, value_ptr, gate_ptr, start - 1, cols, mask, scale, width, added, gated)
            before, _, _ = _normed(h, weight, bias, mask, width, eps)
    total = tl.zeros([block], tl.float32)
    for row in range(start, end):
        h = _stream(h_ptr, value_ptr, gate_ptr, row, cols, mask, scale, width, added, gated)
        at = tl.cast(row, tl.int64) * width + cols
        if added:
            tl.store(out_ptr + at, h, mask=mask)
        if summed:
            total += h
        if count > 0:
            x, mean, rstd = _normed(h, weight, bias, mask, width, eps)
            tl.store(mean_ptr + row, mean)
            tl.store(rstd_ptr + row, rstd)
            if measured:
                tl.store(amax_ptr + row, tl.max(tl.abs(x), 0))
            delta = before - x
            _store_mix(
                0,
                x + delta * mix0,
                x_ptr,
                row_scale_ptr,
                tokens,
                row,
                cols,
                mask,
                width,
                quantized,
                largest,
                integers,
                rounding,
            )
            if count > 1:
                _store_mix(
                    1,
                    x + delta * mix1,
                    x_ptr,
                    row_scale_ptr,
                    tokens,
                    row,
                    cols,
                    mask,
                    width,
                    quantized,
                    largest,
                    integers,
                    rounding,
                )
            if count > 2:
                _store_mix(
                    2,
                    x + delta * mix2,
                    x_ptr,
                    row_scale_ptr,
                    tokens,
                    row,
                    cols,
                    mask,
                    width,
                    quantized,
                    largest,
                    integers,
                    rounding,
                )
            if count > 3:
                _store_mix(
                    3,
                    x + delta * mix3,
                    x_ptr,
                    row_scale_ptr,
                    tokens,
                    row,
                    cols,
                    mask,
                    width,
                    quantized,
                    largest,
                    integers,
                    rounding,
                )
            before = x
    if summed:
        tl.store(sums_ptr + tl.cast(program, tl.int64) * width + cols, total, mask=mask)
