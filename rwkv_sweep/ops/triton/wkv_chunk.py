"""What the two WKV kernels of RWKV-5 and 6 have in common: one chunk of one sentence for one head, in Triton functions.

C tokens, K channels, as the operator's matrix form in `ops.wkv6.wkv6_chunked`. Places behind the end of a chunk hold
zeros and do not decay, so they change nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.common.fast_math import exp, sigmoid, tanh

STRONGEST = tl.constexpr(-18.0)
"""A log decay below this counts as this: exp(-18) = 1.5e-8 is less than the rounding of fp32. So four tokens decay by
no more than exp(-72), whose inverse is far inside fp32, and running sums of strong ones keep what is added."""


@triton.jit
def load_low(low_ptr, rows, there, rank: tl.constexpr, block_r: tl.constexpr):
    """low [T, R] as a tile [C, R] of its rows, in its own dtype (for the decays); zeros outside. Where `rank` is 0
    there is nothing to read."""
    low = there
    if rank > 0:
        ranks = tl.arange(0, block_r)
        low_mask = there[:, None] & (ranks < rank)[None, :]
        low = tl.load(low_ptr + rows[:, None] * rank + ranks[None, :], mask=low_mask, other=0.0)
    return low


@triton.jit
def load_high(high_ptr, cols, inside, width: tl.constexpr, rank: tl.constexpr, block_r: tl.constexpr):
    """high [R, D] as a tile [R, K] of one head, in its own dtype; where `rank` is 0 there is nothing to read."""
    high = inside
    if rank > 0:
        ranks = tl.arange(0, block_r)
        high_mask = (ranks < rank)[:, None] & inside[None, :]
        high = tl.load(high_ptr + ranks[:, None] * width + cols[None, :], mask=high_mask, other=0.0)
    return high


@triton.jit
def log_decays(low, high, decay, mask, rank: tl.constexpr, precision: tl.constexpr):
    """-exp(decay + tanh(low) @ high), [C, K], fp32, not below `STRONGEST`; -exp(decay) where `rank` is 0."""
    moved = decay[None, :]
    if rank > 0:
        moved = moved + tl.dot(tanh(low.to(tl.float32), high.dtype), high, input_precision=precision)
    return tl.maximum(tl.where(mask, -exp(moved), 0.0), STRONGEST)


@triton.jit
def chunk_scores(r, k, u, log_w, total, steps, chunk: tl.constexpr, precision: tl.constexpr):
    """What each token t takes from each earlier one i of its chunk, sum over channels of r_t k_i
    exp(before_t - total_i), and from itself, sum over channels of r_t u k_t: [C, C] in fp32.

    `total` is the running sum of log_w, `before` the same without the token's own. The exponent is split in two about a
    point between the tokens: for tokens in different halves of the chunk about its middle, where neither part is above
    0; for tokens of one half about that half's own middle, four tokens from its ends, where neither is above 72.
    """
    before = total - log_w
    early = steps < chunk // 2
    middle = tl.sum(tl.where(early[:, None], log_w, 0.0), 0)
    quarter = tl.sum(tl.where((steps < chunk // 4)[:, None], log_w, 0.0), 0)
    late_quarter = tl.sum(tl.where((steps < chunk // 4 * 3)[:, None], log_w, 0.0), 0)
    own_half = tl.where(early[:, None], quarter[None, :], late_quarter[None, :])
    near = tl.dot(r * exp(before - own_half), tl.trans(k * exp(own_half - total)), input_precision=precision)
    # Where a token is on the other side of the middle the exponent is above 0, and the product is not used.
    read = r * exp(tl.minimum(before - middle[None, :], 0.0))
    written = k * exp(tl.minimum(middle[None, :] - total, 0.0))
    far = tl.dot(read, tl.trans(written), input_precision=precision)
    scores = tl.where(early[:, None] == early[None, :], near, far)
    own = tl.sum(r * u[None, :] * k, 1)
    # Above the diagonal the product can overflow, and is dropped here.
    scores = tl.where(steps[:, None] > steps[None, :], scores, 0.0)
    return tl.where(steps[:, None] == steps[None, :], own[:, None], scores)


@triton.jit
def norm_and_gate(y, gate, weight, bias, inside, eps, channels: tl.constexpr):
    """silu(gate) * norm(y) over the channels of the head, [C, K], fp32."""
    mean = tl.sum(y, 1) / channels
    centred = tl.where(inside[None, :], y - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / channels + eps)
    return (centred * rstd[:, None] * weight[None, :] + bias[None, :]) * gate * sigmoid(gate)
