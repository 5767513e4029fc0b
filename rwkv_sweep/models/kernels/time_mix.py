"""The WKV-6 operator with the decay before it and the group norm and gate behind it, over packed sentences.

One program reads one sentence for one head, in chunks of `CHUNK` tokens, and keeps the state in registers. Inside a
chunk the operator is the matrix form of `wkv6.chunked`, decays factored about the middle of the chunk. Where the decays
of a chunk are too strong for that, the program walks over its tokens as the reference does, which is exact.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from rwkv_sweep.models.packed import Packed

CHUNK = 16
MAX_EXPONENT = tl.constexpr(80.0)
"""Half a chunk may decay by exp(-80) and its inverse is still far inside fp32."""
STRONGEST = tl.constexpr(-25.0)
"""In the matrix form a log decay below this counts as this: exp(-25) is far below the rounding of fp32."""


def time_mix(
    r_TD: Tensor,
    k_TD: Tensor,
    v_TD: Tensor,
    gate_TD: Tensor,
    low_TR: Tensor,
    high_RD: Tensor,
    decay_D: Tensor,
    u_HK: Tensor,
    norm: nn.GroupNorm,
    packed: Packed,
    states: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """silu(gate) * group_norm(wkv6(r, k, v, w)) with log w = -exp(decay + tanh(low) @ high).

    Args:
        r_TD, k_TD, v_TD, gate_TD: of T packed tokens, D = heads * K, of any dtype; summed in fp32.
        low_TR: before the tanh, in the dtype of `high_RD`.
        high_RD: low-rank matrix of the decay.
        decay_D: its fixed part, fp32.
        u_HK: the bonus of the current token, fp32; K at most 64.
        norm: one group per head.
        packed: the sentences; the state starts anew in each.
        states: also return the states after each sentence's last token.

    Returns:
        [T, D] in the dtype of `high_RD`, and [B, H, K, V] in fp32 or None. Products use TF32 where that dtype has 16
        bits, and never otherwise.
    """
    heads, channels = u_HK.shape
    sentences = len(packed.lengths)
    out_TD = torch.empty(r_TD.shape, dtype=high_RD.dtype, device=r_TD.device)
    shape = (sentences, heads, channels, channels)
    state_BHKV = torch.empty(shape, device=r_TD.device) if states else None
    if sentences:
        time_mix_kernel[(heads, sentences)](
            r_TD,
            k_TD,
            v_TD,
            gate_TD,
            low_TR,
            high_RD,
            decay_D,
            u_HK,
            norm.weight,
            norm.bias,
            packed.offsets_B1,
            out_TD,
            state_BHKV,
            norm.eps,
            width=heads * channels,
            channels=channels,
            rank=high_RD.shape[0],
            block_k=max(16, triton.next_power_of_2(channels)),
            block_r=max(16, triton.next_power_of_2(high_RD.shape[0])),
            chunk=CHUNK,
            states=states,
            precision="ieee" if high_RD.dtype == torch.float32 else "tf32",
            num_warps=4 if channels > 32 else 2,
        )
    return out_TD, state_BHKV


@triton.jit
def _chunk_products(state, r, k, v, u, log_w, total, middle, last, steps, carried, precision: tl.constexpr):
    """The chunk in matrix form: its y without the norm, and the state behind it."""
    before = total - log_w
    scores = tl.dot(
        r * tl.exp(before - middle[None, :]), tl.trans(k * tl.exp(middle[None, :] - total)), input_precision=precision
    )
    # Above the diagonal the product can overflow, and is dropped here.
    scores = tl.where(steps[:, None] > steps[None, :], scores, 0.0)
    y = tl.dot(scores, v, input_precision=precision) + tl.sum(r * u[None, :] * k, 1)[:, None] * v
    if carried:
        y += tl.dot(r * tl.exp(before), state, input_precision=precision)
    kept = tl.dot(tl.trans(k * tl.exp(last[None, :] - total)), v, input_precision=precision)
    return y, tl.exp(last)[:, None] * state + kept


@triton.jit
def _chunk_steps(state, r, k, v, u, log_w, steps, chunk: tl.constexpr):
    """The chunk token by token, for any decays: same results as `_chunk_products`."""
    y = tl.zeros_like(r)
    for step in range(chunk):
        here = steps[:, None] == step
        r_K = tl.sum(tl.where(here, r, 0.0), 0)
        k_K = tl.sum(tl.where(here, k, 0.0), 0)
        v_V = tl.sum(tl.where(here, v, 0.0), 0)
        w_K = tl.exp(tl.sum(tl.where(here, log_w, 0.0), 0))
        kv = k_K[:, None] * v_V[None, :]
        y_V = tl.sum(r_K[:, None] * (state + u[:, None] * kv), 0)
        y = tl.where(here, y_V[None, :], y)
        state = w_K[:, None] * state + kv
    return y, state


@triton.jit
def time_mix_kernel(
    r_ptr,
    k_ptr,
    v_ptr,
    gate_ptr,
    low_ptr,
    high_ptr,
    decay_ptr,
    u_ptr,
    weight_ptr,
    bias_ptr,
    offsets_ptr,
    out_ptr,
    state_ptr,
    eps,
    width: tl.constexpr,
    channels: tl.constexpr,
    rank: tl.constexpr,
    block_k: tl.constexpr,
    block_r: tl.constexpr,
    chunk: tl.constexpr,
    states: tl.constexpr,
    precision: tl.constexpr,
):
    head = tl.program_id(0)
    sentence = tl.program_id(1)
    start = tl.load(offsets_ptr + sentence)
    end = tl.load(offsets_ptr + sentence + 1)
    channel = tl.arange(0, block_k)
    inside = channel < channels
    cols = head * channels + channel
    ranks = tl.arange(0, block_r)
    steps = tl.arange(0, chunk)
    u = tl.load(u_ptr + cols, mask=inside, other=0.0)
    decay = tl.load(decay_ptr + cols, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + cols, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + cols, mask=inside, other=0.0)
    high_mask = (ranks < rank)[:, None] & inside[None, :]
    high = tl.load(high_ptr + ranks[:, None] * width + cols[None, :], mask=high_mask, other=0.0)
    state = tl.zeros([block_k, block_k], tl.float32)
    for at in range(start, end, chunk):
        rows = (at + steps).to(tl.int64)
        there = rows < end
        mask = there[:, None] & inside[None, :]
        places = rows[:, None] * width + cols[None, :]
        low_mask = there[:, None] & (ranks < rank)[None, :]
        low = tl.load(low_ptr + rows[:, None] * rank + ranks[None, :], mask=low_mask, other=0.0).to(tl.float32)
        low = (2.0 * tl.sigmoid(2.0 * low) - 1.0).to(high_ptr.dtype.element_ty)
        r = tl.load(r_ptr + places, mask=mask, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + places, mask=mask, other=0.0).to(tl.float32)
        v = tl.load(v_ptr + places, mask=mask, other=0.0).to(tl.float32)
        # Places behind the sentence's end hold zeros and do not decay, so they leave the state alone.
        log_w = tl.where(mask, -tl.exp(decay[None, :] + tl.dot(low, high, input_precision=precision)), 0.0)
        limited = tl.maximum(log_w, STRONGEST)
        total = tl.cumsum(limited, 0)
        middle = tl.sum(tl.where(steps[:, None] < chunk // 2, limited, 0.0), 0)
        last = tl.sum(limited, 0)
        if tl.max(tl.maximum(-middle, middle - last), 0) <= MAX_EXPONENT:
            y, state = _chunk_products(state, r, k, v, u, limited, total, middle, last, steps, at > start, precision)
        else:
            y, state = _chunk_steps(state, r, k, v, u, log_w, steps, chunk)
        mean = tl.sum(y, 1) / channels
        centred = tl.where(inside[None, :], y - mean[:, None], 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / channels + eps)
        gate = tl.load(gate_ptr + places, mask=mask, other=0.0).to(tl.float32)
        normed = centred * rstd[:, None] * weight[None, :] + bias[None, :]
        tl.store(out_ptr + places, (normed * gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty), mask=mask)
    if states:
        row = (sentence * (width // channels) + head).to(tl.int64) * channels * channels
        place = row + channel[:, None] * channels + channel[None, :]
        tl.store(state_ptr + place, state, mask=inside[:, None] & inside[None, :])
