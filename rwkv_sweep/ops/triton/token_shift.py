"""The five data-dependent token-shift interpolations of a time mix, with the low-rank GEMM that makes them.

Shapes: T packed tokens, D hidden size, R rank of each low-rank product, C tokens of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from rwkv_sweep.ops.common.number_formats import FP8, LARGEST
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.triton.common.dependent_launch import can_depend, launch_dependents, wait_for_earlier
from rwkv_sweep.ops.triton.common.fast_math import tanh
from rwkv_sweep.ops.triton.common.launching import on_device_of_input
from rwkv_sweep.ops.triton.residual import Normed


def interpolate_token_shifts(
    normed: Normed, norm: nn.LayerNorm, low_TR: Tensor, high_5RD: Tensor, fixed: Sequence[Tensor], packed: Packed
) -> Tensor:
    """x + (x of the token before - x) * (fixed + tanh(low) @ high) for each of five, x being the norm of the stream.

    Args:
        normed: the stream with mean and deviation of `norm`.
        norm: the norm itself.
        low_TR: [T, 5 * R] before the tanh, in the dtype of the matrix products.
        high_5RD: the five low-rank matrices [5, R, D].
        fixed: the five vectors of D numbers, fp32.
        packed: the sentences.

    Returns:
        [5, T, D] in the dtype of `high_5RD`.
    """
    tokens, width = normed.h_TD.shape
    out_5TD = torch.empty(5, tokens, width, dtype=high_5RD.dtype, device=normed.h_TD.device)
    launch(normed, norm, low_TR, high_5RD, fixed, packed, out_5TD, None, None, None)
    return out_5TD


@on_device_of_input
def launch(
    normed: Normed,
    norm: nn.LayerNorm,
    low_TR: Tensor,
    high_5RD: Tensor,
    fixed: Sequence[Tensor],
    packed: Packed,
    out: Tensor,
    rows_4TD: Tensor | None,
    scale_4T: Tensor | None,
    bounds_4: Tensor | None,
) -> None:
    """Run the kernel: all five mixes into `out`, or the first alone and the others into `rows_4TD` and `scale_4T`."""
    tokens, width = normed.h_TD.shape
    rank = high_5RD.shape[1]
    rows, columns, tiles = (16, 32, 8) if tokens > 2048 else (16, 64, 1)
    dependent = tokens <= 2048 and can_depend(normed.h_TD.device)
    if tokens:
        token_shift_kernel[(triton.cdiv(width, columns), triton.cdiv(tokens, rows * tiles))](
            normed.h_TD,
            normed.mean_T,
            normed.rstd_T,
            norm.weight,
            norm.bias,
            packed.first_T,
            low_TR,
            high_5RD,
            *fixed,
            out,
            rows_4TD,
            scale_4T,
            normed.amax_T,
            bounds_4,
            tokens,
            width=width,
            rank=rank,
            block_t=rows,
            block_d=columns,
            block_r=max(16, triton.next_power_of_2(rank)),
            tiles=tiles,
            precision="ieee" if high_5RD.dtype == torch.float32 else "tf32",
            quantized=rows_4TD is not None,
            largest=LARGEST[FP8],
            dependent=dependent,
            num_warps=1 if tokens > 2048 else 4,
            launch_pdl=dependent,
        )


@triton.jit
def _low(index, low_ptr, dtype: tl.constexpr, rows, there, rank, block_r: tl.constexpr):
    """tanh(low) of one mix as a tile [C, R], in `dtype`; low [T, 5 * R] of any float dtype."""
    ranks = tl.arange(0, block_r)
    at = rows[:, None] * (5 * rank) + index * rank + ranks[None, :]
    low = tl.load(low_ptr + at, mask=there[:, None] & (ranks < rank)[None, :], other=0.0).to(tl.float32)
    return tanh(low, dtype)


@triton.jit
def _high(index, high_ptr, cols, width, rank, block_r: tl.constexpr):
    """high[index] of high [5, R, D] as a tile of `cols`, in its own dtype: one mix's low-rank matrix."""
    ranks = tl.arange(0, block_r)
    at = (index * rank + ranks)[:, None] * width + cols[None, :]
    return tl.load(high_ptr + at, mask=(ranks < rank)[:, None] & (cols < width)[None, :], other=0.0)


@triton.jit
def _store(index, x, delta, fixed, low, high, out_ptr, tokens, rows, cols, width, mask, precision: tl.constexpr):
    """out[index] = x + delta * (fixed + low @ high) for a tile [C, D] of tokens, in the dtype of out [5, T, D]."""
    mixed = x + delta * (fixed + tl.dot(low, high, input_precision=precision))
    at = (index * tl.cast(tokens, tl.int64) + rows)[:, None] * width + cols[None, :]
    tl.store(out_ptr + at, mixed.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _store_row(index, mixed, bound, rows_ptr, scale_ptr, tokens, rows, cols, width, mask, largest: tl.constexpr):
    """Write a tile of `mixed` [C, D] as fp8 rows [4, T, D] at `index`, with the fp32 scale [4, T] that its bound gives.

    rows = mixed * largest / bound and scale = bound / largest, where no entry of a row exceeds its bound [C].
    """
    at = (index * tl.cast(tokens, tl.int64) + rows)[:, None] * width + cols[None, :]
    factor = tl.where(bound == 0.0, 0.0, largest / bound)
    tl.store(rows_ptr + at, (mixed * factor[:, None]).to(rows_ptr.dtype.element_ty), mask=mask)
    # One program along the width writes the scales.
    tl.store(scale_ptr + index * tokens + rows, bound / largest, mask=(rows < tokens) & (tl.program_id(0) == 0))


@triton.jit(do_not_specialize=["tokens"])
def token_shift_kernel(
    h_ptr,
    mean_ptr,
    rstd_ptr,
    weight_ptr,
    bias_ptr,
    first_ptr,
    low_ptr,
    high_ptr,
    fixed0_ptr,
    fixed1_ptr,
    fixed2_ptr,
    fixed3_ptr,
    fixed4_ptr,
    out_ptr,
    rows_ptr,
    scale_ptr,
    amax_ptr,
    bounds_ptr,
    tokens,
    width: tl.constexpr,
    rank: tl.constexpr,
    block_t: tl.constexpr,
    block_d: tl.constexpr,
    block_r: tl.constexpr,
    tiles: tl.constexpr,
    precision: tl.constexpr,
    quantized: tl.constexpr,
    largest: tl.constexpr,
    dependent: tl.constexpr,
):
    """out = x + (x of the token before - x) * (fixed + tanh(low) @ high), five times, as `models.rwkv6.blocks` mixes.

    x = (h - mean) * rstd * weight + bias is the norm of the stream h [T, D]; mean and rstd [T], weight, bias and fixed0
    to fixed4 [D] are fp32. first [T] (int8) is 1 where a sentence starts, whose token before counts as zeros. low [T, 5
    * R] and high [5, R, D] have the dtype of the matrix products, and out [5, T, D] too.

    Where `quantized`, out [T, D] gets the first mix alone; the others become rows [4, T, D] (fp8) with scale [4, T]
    (fp32), from amax [T], the largest size in each row of x, and bounds [4], fp32 (see `token_shift_fp8`). One program
    for `block_d` channels of `tiles` times `block_t` tokens.
    """
    if dependent:
        launch_dependents()
    cols = tl.program_id(0) * block_d + tl.arange(0, block_d)
    dtype: tl.constexpr = high_ptr.dtype.element_ty
    high0 = _high(0, high_ptr, cols, width, rank, block_r)
    high1 = _high(1, high_ptr, cols, width, rank, block_r)
    high2 = _high(2, high_ptr, cols, width, rank, block_r)
    high3 = _high(3, high_ptr, cols, width, rank, block_r)
    high4 = _high(4, high_ptr, cols, width, rank, block_r)
    fixed0 = tl.load(fixed0_ptr + cols, mask=cols < width, other=0.0)[None, :]
    fixed1 = tl.load(fixed1_ptr + cols, mask=cols < width, other=0.0)[None, :]
    fixed2 = tl.load(fixed2_ptr + cols, mask=cols < width, other=0.0)[None, :]
    fixed3 = tl.load(fixed3_ptr + cols, mask=cols < width, other=0.0)[None, :]
    fixed4 = tl.load(fixed4_ptr + cols, mask=cols < width, other=0.0)[None, :]
    weight = tl.load(weight_ptr + cols, mask=cols < width, other=0.0)[None, :]
    bias = tl.load(bias_ptr + cols, mask=cols < width, other=0.0)[None, :]
    # Weights are read before: they are no earlier kernel's result.
    if dependent:
        wait_for_earlier()
    if quantized:
        bound1 = tl.load(bounds_ptr)
        bound2 = tl.load(bounds_ptr + 1)
        bound3 = tl.load(bounds_ptr + 2)
        bound4 = tl.load(bounds_ptr + 3)
    for tile in range(tiles):
        rows = (tl.program_id(1) * tiles + tile) * block_t + tl.arange(0, block_t)
        there = rows < tokens
        mask = there[:, None] & (cols < width)[None, :]
        # All loads come before the first store: the compiler cannot know that they do not touch, and would wait.
        low0 = _low(0, low_ptr, dtype, rows, there, rank, block_r)
        low1 = _low(1, low_ptr, dtype, rows, there, rank, block_r)
        low2 = _low(2, low_ptr, dtype, rows, there, rank, block_r)
        low3 = _low(3, low_ptr, dtype, rows, there, rank, block_r)
        low4 = _low(4, low_ptr, dtype, rows, there, rank, block_r)
        at = rows.to(tl.int64)[:, None] * width + cols[None, :]
        mean = tl.load(mean_ptr + rows, mask=there, other=0.0)[:, None]
        rstd = tl.load(rstd_ptr + rows, mask=there, other=0.0)[:, None]
        x = (tl.load(h_ptr + at, mask=mask, other=0.0) - mean) * rstd * weight + bias
        earlier = there & (rows > 0)
        mean = tl.load(mean_ptr + rows - 1, mask=earlier, other=0.0)[:, None]
        rstd = tl.load(rstd_ptr + rows - 1, mask=earlier, other=0.0)[:, None]
        before = tl.load(h_ptr + at - width, mask=mask & earlier[:, None], other=0.0)
        follows = tl.load(first_ptr + rows, mask=there, other=1) == 0
        delta = tl.where(follows[:, None], (before - mean) * rstd * weight + bias, 0.0) - x
        if quantized:
            amax = tl.load(amax_ptr + rows, mask=there, other=0.0)
            reach = amax + tl.load(amax_ptr + rows - 1, mask=earlier & follows, other=0.0)
        _store(0, x, delta, fixed0, low0, high0, out_ptr, tokens, rows, cols, width, mask, precision)
        if quantized:
            mixed = x + delta * (fixed1 + tl.dot(low1, high1, input_precision=precision))
            _store_row(0, mixed, amax + reach * bound1, rows_ptr, scale_ptr, tokens, rows, cols, width, mask, largest)
            mixed = x + delta * (fixed2 + tl.dot(low2, high2, input_precision=precision))
            _store_row(1, mixed, amax + reach * bound2, rows_ptr, scale_ptr, tokens, rows, cols, width, mask, largest)
            mixed = x + delta * (fixed3 + tl.dot(low3, high3, input_precision=precision))
            _store_row(2, mixed, amax + reach * bound3, rows_ptr, scale_ptr, tokens, rows, cols, width, mask, largest)
            mixed = x + delta * (fixed4 + tl.dot(low4, high4, input_precision=precision))
            _store_row(3, mixed, amax + reach * bound4, rows_ptr, scale_ptr, tokens, rows, cols, width, mask, largest)
        else:
            _store(1, x, delta, fixed1, low1, high1, out_ptr, tokens, rows, cols, width, mask, precision)
            _store(2, x, delta, fixed2, low2, high2, out_ptr, tokens, rows, cols, width, mask, precision)
            _store(3, x, delta, fixed3, low3, high3, out_ptr, tokens, rows, cols, width, mask, precision)
            _store(4, x, delta, fixed4, low4, high4, out_ptr, tokens, rows, cols, width, mask, precision)
