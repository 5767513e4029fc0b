"""What the two WKV kernels have in common: one chunk of one sentence for one head, in Triton functions.

C tokens, K channels, as the operator's matrix form in `wkv6.chunked`. Places behind the end of a chunk hold zeros and
do not decay, so they change nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.models.kernels.fast_math import exp, sigmoid, tanh

CHUNK = 16
MAX_EXPONENT = tl.constexpr(80.0)
"""Half a chunk may decay by exp(-80) and its inverse is still far inside fp32."""
STRONGEST = tl.constexpr(-25.0)
"""A log decay below this counts as this: exp(-25) = 1e-11 is nothing beside the rounding of fp32, and running sums of
stronger ones would lose the weak ones added to them."""


@triton.jit
def load_rows(ptr, rows, cols, mask, width):
    """[C, K] of a packed [T, D], in its own dtype: loaded early and made fp32 late, it takes half the registers."""
    return tl.load(ptr + rows[:, None] * width + cols[None, :], mask=mask, other=0.0)


@triton.jit
def load_low(low_ptr, rows, there, rank: tl.constexpr, block_r: tl.constexpr):
    """[C, R] of the low-rank numbers behind the decays."""
    ranks = tl.arange(0, block_r)
    low_mask = there[:, None] & (ranks < rank)[None, :]
    return tl.load(low_ptr + rows[:, None] * rank + ranks[None, :], mask=low_mask, other=0.0)


@triton.jit
def log_decays(low, high, decay, mask, precision: tl.constexpr):
    """-exp(decay + tanh(low) @ high), [C, K], not below `STRONGEST`."""
    low = low.to(tl.float32)
    moved = decay[None, :] + tl.dot(tanh(low, high.dtype), high, input_precision=precision)
    return tl.maximum(tl.where(mask, -exp(moved), 0.0), STRONGEST)


@triton.jit
def chunk_scores(r, k, u, before, total, steps, chunk: tl.constexpr, precision: tl.constexpr):
    """What each token t takes from each earlier one i of its chunk, sum over channels of r_t k_i exp(before_t - total_i),
    and from itself, sum over channels of r_t u k_t: [C, C].

    The decays are factored about the middle of the chunk where they allow it; else the tokens are taken one by one,
    with no exponent above 0.
    """
    half = tl.sum(tl.where(steps[:, None] < chunk // 2, total - before, 0.0), 0)
    last = tl.min(total, 0)
    if tl.max(tl.maximum(-half, half - last), 0) <= MAX_EXPONENT:
        read = r * exp(before - half[None, :])
        written = k * exp(half[None, :] - total)
        scores = tl.dot(read, tl.trans(written), input_precision=precision)
    else:
        scores = tl.zeros([chunk, chunk], tl.float32)
        for step in range(chunk):
            here = steps[:, None] == step
            k_K = tl.sum(tl.where(here, k, 0.0), 0)
            total_K = tl.sum(tl.where(here, total, 0.0), 0)
            taken = tl.sum(r * k_K[None, :] * exp(tl.minimum(before - total_K[None, :], 0.0)), 1)
            scores = tl.where(steps[None, :] == step, taken[:, None], scores)
    # Above the diagonal the product can overflow, and is dropped here.
    own = tl.sum(r * u[None, :] * k, 1)
    scores = tl.where(steps[:, None] > steps[None, :], scores, 0.0)
    return tl.where(steps[:, None] == steps[None, :], own[:, None], scores)


@triton.jit
def norm_and_gate(y, gate, weight, bias, inside, eps, channels: tl.constexpr):
    """silu(gate) * norm(y) over the channels of the head, [C, K]."""
    mean = tl.sum(y, 1) / channels
    centred = tl.where(inside[None, :], y - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / channels + eps)
    return (centred * rstd[:, None] * weight[None, :] + bias[None, :]) * gate * sigmoid(gate)
