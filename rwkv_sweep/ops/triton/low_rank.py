"""RWKV-7's low-rank products (decay, learning rate, gate, value residual) of all tokens of a batch.

Both factors of all of them lie side by side, so that a block takes one cuBLAS product and two kernels for them.
The inputs are mixes of a token's norm with that of the token before, x_t + (x_{t-1} - x_t) * mix. A product is linear,
so the mix moves into the first factor: x_t @ ((1 - mix) * first) + x_{t-1} @ (mix * first). Both parts come from x
itself, and no mixed inputs are written.

Shapes: T packed tokens, D hidden size, G products, R the sum of their ranks, each filled up to a multiple of `STEP`,
S = 2 R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.triton.common.fast_math import tanh
from rwkv_sweep.ops.triton.common.launching import on_device_of_input

STEP = 32
"""Columns of the first factor that a kernel reads at once."""
ONE_LAUNCH_UP_TO = 1024
"""Batches of at most this many tokens take one kernel for all second factors; larger ones a cuBLAS product for each."""
TANH, PLAIN, SIGMOID = 1, 0, 2
"""What stands between two factors."""


@dataclass(frozen=True)
class LowRankFactors:
    """The factors of G low-rank products.

    Attributes:
        high_RD: second factors, one below another.
        first_DS: S = 2 R; first factors times (1 - mix), then times mix.
        starts: first row of each product in `high_RD`, and R at the end.
        starts_G1: the same on the device, int32.
        inner_R: int32; `TANH`, `SIGMOID` or `PLAIN` of each column of a first product.
    """

    high_RD: Tensor
    first_DS: Tensor
    starts: tuple[int, ...]
    starts_G1: Tensor
    inner_R: Tensor

    @classmethod
    def of(
        cls, first: Sequence[Tensor], high: Sequence[Tensor], mixes: Sequence[Tensor], inner: Sequence[int]
    ) -> LowRankFactors:
        """Lay factors [D, R_g] and [R_g, D], with mixes [D], side by side, in the dtype of the factors."""
        width, device = len(first[0]), first[0].device
        ranks = [triton.cdiv(factor.shape[1], STEP) * STEP for factor in first]
        starts = [sum(ranks[:index]) for index in range(len(ranks) + 1)]
        first_DS = torch.zeros(width, 2 * starts[-1], dtype=first[0].dtype, device=device)
        high_RD = torch.zeros(starts[-1], width, dtype=high[0].dtype, device=device)
        for start, low, wide, mix in zip(starts, first, high, mixes, strict=False):
            mix_D1 = mix.float().flatten()[:, None]
            first_DS[:, start : start + low.shape[1]] = low.float() * (1 - mix_D1)
            before = starts[-1] + start
            first_DS[:, before : before + low.shape[1]] = low.float() * mix_D1
            high_RD[start : start + len(wide)] = wide
        inner_R = torch.tensor(list(inner)).repeat_interleave(torch.tensor(ranks))
        return cls(
            high_RD,
            first_DS,
            tuple(starts),
            torch.tensor(starts, dtype=torch.int32, device=device),
            inner_R.to(device, torch.int32),
        )


def share_memory(factors: LowRankFactors, high: Sequence[nn.Parameter]) -> None:
    """Let the second factors' parameters be parts of `high_RD`, which holds their numbers already."""
    for parameter, start in zip(high, factors.starts, strict=False):
        parameter.data = factors.high_RD[start : start + len(parameter)]


@on_device_of_input
def low_rank_products(x_TD: Tensor, factors: LowRankFactors, packed: Packed) -> Tensor:
    """inner(mixed @ first) @ high for each of G products.

    Args:
        x_TD: the norm of the stream, in the dtype of the factors.
        factors: see `LowRankFactors`.
        packed: the sentences; the first token of each has zeros before it.

    Returns:
        [G, T, D] in the dtype of the factors.
    """
    low_TR = between(x_TD @ factors.first_DS, factors, packed)
    tokens, (ranks, width), count = len(low_TR), factors.high_RD.shape, len(factors.starts) - 1
    out_GTD = torch.empty(count, tokens, width, dtype=low_TR.dtype, device=low_TR.device)
    if tokens > ONE_LAUNCH_UP_TO:
        for out_TD, start, end in zip(out_GTD, factors.starts, factors.starts[1:], strict=False):
            torch.mm(low_TR[:, start:end], factors.high_RD[start:end], out=out_TD)
    elif tokens:
        rows, columns = 32, 64
        second_kernel[(triton.cdiv(width, columns), triton.cdiv(tokens, rows), count)](
            low_TR,
            factors.high_RD,
            factors.starts_G1,
            out_GTD,
            tokens,
            ranks=ranks,
            width=width,
            block_t=rows,
            block_d=columns,
            step=STEP,
            precision="tf32x3" if low_TR.dtype == torch.float32 else "tf32",
            num_warps=4,
            num_stages=3,
        )
    return out_GTD


@on_device_of_input
def between(low_TS: Tensor, factors: LowRankFactors, packed: Packed) -> Tensor:
    """Both parts of the first product [T, 2 R] added, each token's and that of the token before, and the function that
    stands before the second factor applied: [T, R]."""
    tokens, ranks = len(low_TS), len(factors.high_RD)
    out_TR = torch.empty(tokens, ranks, dtype=low_TS.dtype, device=low_TS.device)
    if tokens:
        rows, columns = 16, 128
        between_kernel[(triton.cdiv(tokens, rows), triton.cdiv(ranks, columns))](
            low_TS,
            factors.inner_R,
            packed.first_T,
            out_TR,
            tokens,
            ranks=ranks,
            rows=rows,
            columns=columns,
            num_warps=4,
        )
    return out_TR


@triton.jit(do_not_specialize=["tokens"])
def between_kernel(
    low_ptr, inner_ptr, first_ptr, out_ptr, tokens, ranks: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr
):
    """out[t] = f(low[t, :R] + low[t - 1, R:]), the second part only where first [T] (int8) is 0.

    low [T, 2 R] and out [T, R] have one dtype; f is that of inner [R] (int32), column by column: `PLAIN`, `TANH` or
    `SIGMOID`, in fp32. One program takes `rows` tokens and `columns` of R.
    """
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    row = (tl.program_id(0) * rows + tl.arange(0, rows)).to(tl.int64)
    cols = tl.program_id(1) * columns + tl.arange(0, columns)
    there, inside = row < tokens, cols < ranks
    follows = there & (tl.load(first_ptr + row, mask=there, other=1) == 0)
    place = row[:, None] * (2 * ranks) + cols[None, :]
    low = tl.load(low_ptr + place, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)
    low += tl.load(low_ptr + place - ranks, mask=follows[:, None] & inside[None, :], other=0.0).to(tl.float32)
    inner = tl.load(inner_ptr + cols, mask=inside, other=0)[None, :]
    # sigmoid(x) = (1 + tanh(x / 2)) / 2
    half = tl.where(inner == 2, 0.5, 1.0)
    curved = tanh(low * half, dtype).to(tl.float32) * half + tl.where(inner == 2, 0.5, 0.0)
    low = tl.where(inner == 0, low, curved)
    mask = there[:, None] & inside[None, :]
    tl.store(out_ptr + row[:, None] * ranks + cols[None, :], low.to(dtype), mask=mask)


@triton.jit(do_not_specialize=["tokens"])
def second_kernel(
    low_ptr,
    high_ptr,
    starts_ptr,
    out_ptr,
    tokens,
    ranks: tl.constexpr,
    width: tl.constexpr,
    block_t: tl.constexpr,
    block_d: tl.constexpr,
    step: tl.constexpr,
    precision: tl.constexpr,
):
    """out[g] = low[:, rows of g] @ high[rows of g], one tile of one of G products a program.

    low [T, R], high [R, D] and out [G, T, D] have one dtype, sums are in fp32. The rows of g are those from starts[g]
    to starts[g + 1], starts [G + 1] in int32.
    """
    product = tl.program_id(2)
    rows = (tl.program_id(1) * block_t + tl.arange(0, block_t)).to(tl.int64)
    cols = tl.program_id(0) * block_d + tl.arange(0, block_d)
    there, inside = rows < tokens, cols < width
    total = tl.zeros([block_t, block_d], tl.float32)
    for start in range(tl.load(starts_ptr + product), tl.load(starts_ptr + product + 1), step):
        at = start + tl.arange(0, step)
        low = tl.load(low_ptr + rows[:, None] * ranks + at[None, :], mask=there[:, None], other=0.0)
        high = tl.load(high_ptr + at[:, None] * width + cols[None, :], mask=inside[None, :], other=0.0)
        total = tl.dot(low, high, total, input_precision=precision)
    place = (product * tl.cast(tokens, tl.int64) + rows)[:, None] * width + cols[None, :]
    tl.store(out_ptr + place, total.to(out_ptr.dtype.element_ty), mask=there[:, None] & inside[None, :])
