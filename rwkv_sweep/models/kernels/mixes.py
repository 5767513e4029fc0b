"""The five data-dependent mixes of a time mix, with the low-rank product that makes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from rwkv_sweep.models.kernels.residual import Normed
from rwkv_sweep.models.packed import Packed


def five_mixes(
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
    rank = high_5RD.shape[1]
    out_5TD = torch.empty(5, tokens, width, dtype=high_5RD.dtype, device=normed.h_TD.device)
    rows, columns = (32, 128) if tokens > 512 else (16, 64)
    if tokens:
        mixes_kernel[(triton.cdiv(width, columns), triton.cdiv(tokens, rows))](
            normed.h_TD,
            normed.mean_T,
            normed.rstd_T,
            norm.weight,
            norm.bias,
            packed.first_T,
            low_TR,
            high_5RD,
            *fixed,
            out_5TD,
            tokens,
            width=width,
            rank=rank,
            block_t=rows,
            block_d=columns,
            block_r=max(16, triton.next_power_of_2(rank)),
            precision="ieee" if high_5RD.dtype == torch.float32 else "tf32",
            num_warps=4,
        )
    return out_5TD


@triton.jit
def _mix(index, x, delta, fixed_ptr, low_ptr, high_ptr, out_ptr, tokens, rows, cols, width, rank, block_r, precision):
    ranks = tl.arange(0, block_r)
    low_at = rows.to(tl.int64)[:, None] * (5 * rank) + index * rank + ranks[None, :]
    low = tl.load(low_ptr + low_at, mask=(rows < tokens)[:, None] & (ranks < rank)[None, :], other=0.0).to(tl.float32)
    # tanh by way of the hardware's exponential; its error, 1e-7, is that of the sums it goes into.
    low = (2.0 * tl.sigmoid(2.0 * low) - 1.0).to(high_ptr.dtype.element_ty)
    high_at = (index * rank + ranks)[:, None] * width + cols[None, :]
    high = tl.load(high_ptr + high_at, mask=(ranks < rank)[:, None] & (cols < width)[None, :], other=0.0)
    moved = tl.dot(low, high, input_precision=precision)
    fixed = tl.load(fixed_ptr + cols, mask=cols < width, other=0.0)
    out_at = (index * tl.cast(tokens, tl.int64) + rows)[:, None] * width + cols[None, :]
    mask = (rows < tokens)[:, None] & (cols < width)[None, :]
    tl.store(out_ptr + out_at, (x + delta * (fixed[None, :] + moved)).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["tokens"])
def mixes_kernel(
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
    tokens,
    width: tl.constexpr,
    rank: tl.constexpr,
    block_t: tl.constexpr,
    block_d: tl.constexpr,
    block_r: tl.constexpr,
    precision: tl.constexpr,
):
    cols = tl.program_id(0) * block_d + tl.arange(0, block_d)
    rows = tl.program_id(1) * block_t + tl.arange(0, block_t)
    there = rows < tokens
    mask = there[:, None] & (cols < width)[None, :]
    weight = tl.load(weight_ptr + cols, mask=cols < width, other=0.0)[None, :]
    bias = tl.load(bias_ptr + cols, mask=cols < width, other=0.0)[None, :]
    at = rows.to(tl.int64)[:, None] * width + cols[None, :]
    mean = tl.load(mean_ptr + rows, mask=there, other=0.0)[:, None]
    rstd = tl.load(rstd_ptr + rows, mask=there, other=0.0)[:, None]
    x = (tl.load(h_ptr + at, mask=mask, other=0.0) - mean) * rstd * weight + bias
    follows = there & (tl.load(first_ptr + rows, mask=there, other=1) == 0)
    mean = tl.load(mean_ptr + rows - 1, mask=follows, other=0.0)[:, None]
    rstd = tl.load(rstd_ptr + rows - 1, mask=follows, other=0.0)[:, None]
    before = tl.load(h_ptr + at - width, mask=mask & follows[:, None], other=0.0)
    before = tl.where(follows[:, None], (before - mean) * rstd * weight + bias, 0.0)
    delta = before - x
    _mix(0, x, delta, fixed0_ptr, low_ptr, high_ptr, out_ptr, tokens, rows, cols, width, rank, block_r, precision)
    _mix(1, x, delta, fixed1_ptr, low_ptr, high_ptr, out_ptr, tokens, rows, cols, width, rank, block_r, precision)
    _mix(2, x, delta, fixed2_ptr, low_ptr, high_ptr, out_ptr, tokens, rows, cols, width, rank, block_r, precision)
    _mix(3, x, delta, fixed3_ptr, low_ptr, high_ptr, out_ptr, tokens, rows, cols, width, rank, block_r, precision)
    _mix(4, x, delta, fixed4_ptr, low_ptr, high_ptr, out_ptr, tokens, rows, cols, width, rank, block_r, precision)
