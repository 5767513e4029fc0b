"""The WKV operator of RWKV-5 and 6 with the decay before it and the group norm and gate behind it, over packed
sentences. RWKV-5 is the case of a decay without a low-rank part.

Two kernels with the same results. `pairs_kernel` is for short sentences: one program makes the output of one span of
at most `CHUNK` tokens from that span and all before it, so that no state is needed and all spans run at once; its work
grows with the square of the length. `state_kernel` is for long ones, and for whoever wants the states: one program
reads one sentence from its first token to its last and carries the state in registers.

Shapes: T packed tokens, B sentences, N spans of tokens, D channels in H heads of K key and V value channels, R rank of
the low-rank product of the decay.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import CHUNK, Packed
from rwkv_sweep.ops.triton.common.fast_math import exp
from rwkv_sweep.ops.triton.common.launching import on_device_of_input
from rwkv_sweep.ops.triton.common.loading_rows import load_rows
from rwkv_sweep.ops.triton.wkv_chunk import chunk_scores, load_high, load_low, log_decays, norm_and_gate

PAIRS_UP_TO = 256
"""Longest sentence for which reading every pair of spans is faster than carrying a state."""


@on_device_of_input
def time_mix(
    r_TD: Tensor,
    k_TD: Tensor,
    v_TD: Tensor,
    gate_TD: Tensor,
    low_TR: Tensor | None,
    high_RD: Tensor | None,
    decay_D: Tensor,
    u_HK: Tensor,
    norm: nn.GroupNorm,
    packed: Packed,
    dtype: torch.dtype,
    states: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """silu(gate) * group_norm(wkv6(r, k, v, w)) with log w = -exp(decay + tanh(low) @ high).

    Args:
        r_TD, k_TD, v_TD, gate_TD: of T packed tokens, D = heads * K, of any dtype; summed in fp32.
        low_TR: before the tanh, in the dtype of `high_RD`; None where the decay has no low-rank part, as in RWKV-5.
        high_RD: low-rank matrix of the decay, or None.
        decay_D: its fixed part, fp32.
        u_HK: the bonus of the current token, fp32; K at most 64.
        norm: one group per head.
        packed: the sentences; the state starts anew in each.
        dtype: of the result. Products use TF32 where it has 16 bits, and never otherwise.
        states: also return the states after each sentence's last token.

    Returns:
        [T, D], and [B, H, K, V] in fp32 or None.
    """
    heads, channels = u_HK.shape
    out_TD = torch.empty(r_TD.shape, dtype=dtype, device=r_TD.device)
    rank = 0 if high_RD is None else high_RD.shape[0]
    shape = (len(packed.lengths), heads, channels, channels)
    state_BHKV = torch.empty(shape, device=r_TD.device) if states else None
    if not packed.lengths:
        return out_TD, state_BHKV
    tensors = (r_TD, k_TD, v_TD, gate_TD, low_TR, high_RD, decay_D, u_HK, norm.weight, norm.bias)
    constants = {
        "width": heads * channels,
        "channels": channels,
        "rank": rank,
        "block_k": max(16, triton.next_power_of_2(channels)),
        "block_r": max(16, triton.next_power_of_2(max(1, rank))),
        "chunk": CHUNK,
        "precision": "ieee" if dtype == torch.float32 else "tf32",
    }
    if states or packed.longest > PAIRS_UP_TO:
        grid = (heads, len(packed.lengths))
        state_kernel[grid](
            *tensors, packed.cu_seqlens_B1, out_TD, state_BHKV, norm.eps, **constants, states=states, num_warps=4
        )
    else:
        spans_N2 = packed.spans(CHUNK)
        pairs_kernel[(heads, len(spans_N2))](
            *tensors,
            spans_N2,
            packed.earlier(CHUNK),
            out_TD,
            norm.eps,
            **constants,
            num_warps=2,
            num_stages=2,
            maxnreg=168,
        )
    return out_TD, state_BHKV


@triton.jit
def pairs_kernel(
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
    spans_ptr,
    earlier_ptr,
    out_ptr,
    eps,
    width: tl.constexpr,
    channels: tl.constexpr,
    rank: tl.constexpr,
    block_k: tl.constexpr,
    block_r: tl.constexpr,
    chunk: tl.constexpr,
    precision: tl.constexpr,
):
    """silu(gate) * group_norm(wkv6(r, k, v, w)) with log w = -exp(decay + tanh(low) @ high), as `wkv6_reference` has
    it.

    r, k, v and gate [T, D] of any float dtype; low [T, R] before the tanh and high [R, D] in the dtype of the matrix
    products, both None where `rank` is 0; decay, weight and bias [D] and u [H, K] fp32; out [T, D] in its own dtype.
    Products use fp32 or TF32 (`precision`). spans [N, 2] (int32: first row, end) cut the sentences into runs of at most
    `chunk` tokens, earlier [N] (int32) counts those before each in its sentence. One program for one head of one span:
    y = scores @ v over the span itself and every earlier one, whose decays are multiplied up on the way back.
    """
    span = tl.program_id(1)
    head = tl.program_id(0)
    channel = tl.arange(0, block_k)
    inside = channel < channels
    cols = head * channels + channel
    steps = tl.arange(0, chunk)
    u = tl.load(u_ptr + cols, mask=inside, other=0.0)
    decay = tl.load(decay_ptr + cols, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + cols, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + cols, mask=inside, other=0.0)
    high = load_high(high_ptr, cols, inside, width, rank, block_r)
    start = tl.load(spans_ptr + 2 * span)
    rows = (start + steps).to(tl.int64)
    there = rows < tl.load(spans_ptr + 2 * span + 1)
    mask = there[:, None] & inside[None, :]
    # All loads stand first, so that one wait is enough: none can move over the barriers that follow.
    low = load_low(low_ptr, rows, there, rank, block_r)
    r_raw = load_rows(r_ptr, rows, cols, mask, width)
    k_raw = load_rows(k_ptr, rows, cols, mask, width)
    v_raw = load_rows(v_ptr, rows, cols, mask, width)
    gate_raw = load_rows(gate_ptr, rows, cols, mask, width)
    earlier = tl.load(earlier_ptr + span)
    log_w = log_decays(low, high, decay, mask, rank, precision)
    total = tl.cumsum(log_w, 0)
    r, k, v = r_raw.to(tl.float32), k_raw.to(tl.float32), v_raw.to(tl.float32)
    scores = chunk_scores(r, k, u, log_w, total, steps, chunk, precision)
    y = tl.dot(scores, v, input_precision=precision)
    r *= exp(total - log_w)
    # From the span before this one to the sentence's first. Every exponent is a decay, so none is above 0.
    for back in range(1, earlier + 1):
        q_rows = (tl.load(spans_ptr + 2 * (span - back)) + steps).to(tl.int64)
        q_there = q_rows < tl.load(spans_ptr + 2 * (span - back) + 1)
        q_mask = q_there[:, None] & inside[None, :]
        low = load_low(low_ptr, q_rows, q_there, rank, block_r)
        k_raw = load_rows(k_ptr, q_rows, cols, q_mask, width)
        v_raw = load_rows(v_ptr, q_rows, cols, q_mask, width)
        log_w = log_decays(low, high, decay, q_mask, rank, precision)
        last = tl.sum(log_w, 0)
        k = k_raw.to(tl.float32) * exp(last[None, :] - tl.cumsum(log_w, 0))
        scores = tl.dot(r, tl.trans(k), input_precision=precision)
        y += tl.dot(scores, v_raw.to(tl.float32), input_precision=precision)
        r *= exp(last)[None, :]
    out = norm_and_gate(y, gate_raw.to(tl.float32), weight, bias, inside, eps, channels)
    tl.store(out_ptr + rows[:, None] * width + cols[None, :], out.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def state_kernel(
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
    precision: tl.constexpr,
    states: tl.constexpr,
):
    """As `pairs_kernel`, with the state carried from chunk to chunk: y = r * exp(before) @ state + scores @ v.

    r, k, v and gate [T, D] of any float dtype; low [T, R] before the tanh and high [R, D] in the dtype of the matrix
    products, both None where `rank` is 0; decay, weight and bias [D] and u [H, K] fp32; out [T, D] in its own dtype.
    Products use fp32 or TF32 (`precision`). offsets [B + 1] (int64) are the cu_seqlens of the sentences; state
    [B, H, K, V] (fp32) is written where `states`. One program for one head of one sentence.
    """
    sentence = tl.program_id(1)
    head = tl.program_id(0)
    channel = tl.arange(0, block_k)
    inside = channel < channels
    cols = head * channels + channel
    steps = tl.arange(0, chunk)
    u = tl.load(u_ptr + cols, mask=inside, other=0.0)
    decay = tl.load(decay_ptr + cols, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + cols, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + cols, mask=inside, other=0.0)
    high = load_high(high_ptr, cols, inside, width, rank, block_r)
    start = tl.load(offsets_ptr + sentence)
    end = tl.load(offsets_ptr + sentence + 1)
    state = tl.zeros([block_k, block_k], tl.float32)
    for at in range(start, end, chunk):
        rows = (at + steps).to(tl.int64)
        there = rows < end
        mask = there[:, None] & inside[None, :]
        low = load_low(low_ptr, rows, there, rank, block_r)
        r = load_rows(r_ptr, rows, cols, mask, width).to(tl.float32)
        k = load_rows(k_ptr, rows, cols, mask, width).to(tl.float32)
        v = load_rows(v_ptr, rows, cols, mask, width).to(tl.float32)
        gate = load_rows(gate_ptr, rows, cols, mask, width)
        log_w = log_decays(low, high, decay, mask, rank, precision)
        total = tl.cumsum(log_w, 0)
        scores = chunk_scores(r, k, u, log_w, total, steps, chunk, precision)
        y = tl.dot(scores, v, input_precision=precision)
        if at > start:
            y += tl.dot(r * exp(total - log_w), state, input_precision=precision)
        if states or at + chunk < end:
            last = tl.sum(log_w, 0)
            kept = tl.dot(tl.trans(k * exp(last[None, :] - total)), v, input_precision=precision)
            state = exp(last)[:, None] * state + kept
        out = norm_and_gate(y, gate.to(tl.float32), weight, bias, inside, eps, channels)
        tl.store(out_ptr + rows[:, None] * width + cols[None, :], out.to(out_ptr.dtype.element_ty), mask=mask)
    if states:
        row = (sentence * (width // channels) + head).to(tl.int64) * channels * channels
        place = row + channel[:, None] * channels + channel[None, :]
        tl.store(state_ptr + place, state, mask=inside[:, None] & inside[None, :])
