"""The WKV-7 operator with all that lies around it in a time mix, over packed sentences: decay, learning rate, value
residual and removal key before it, head norm, bonus and gate behind it.

One program reads one head of one sentence, `CHUNK` tokens at a time, and carries the state in registers. A batch whose
sentences all fit in one chunk needs no state, and takes the kernel of `time_mix7_short` in bf16: in fp16 and fp32,
whose factors take twice the registers, that one is the slower of the two.

Shapes: T packed tokens, B sentences, D channels in H heads of K (V = K), C tokens of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.triton.common.fast_math import exp2, reciprocal, scaled_sigmoid
from rwkv_sweep.ops.triton.common.launching import on_device_of_input
from rwkv_sweep.ops.triton.common.loading_rows import load_rows
from rwkv_sweep.ops.triton.rwkv7.time_mix7_short import SPAN, short_kernel
from rwkv_sweep.ops.triton.rwkv7.wkv7_chunk import (
    LOG2_DECAY,
    SHORTEST_KEY,
    as_factor,
    chunk_scores7,
    head_norm,
    removal_keys,
    running_sum,
    vector,
)

CHUNK = 32
"""Tokens that a program reads at once."""


@dataclass(frozen=True)
class Rows7:
    """What a token's matrix products give, each [T, D] in one dtype.

    Attributes:
        r_TD, k_TD, v_TD: receptance, key (before any scaling) and value (before its residual).
        decay_TD, rate_TD: low-rank parts of the logits of decay and learning rate.
        gate_TD: gate, as it multiplies.
        share_TD: low-rank part of the logits of block 0's share in the value, and first_TD block 0's value; None in
            block 0.
    """

    r_TD: Tensor
    k_TD: Tensor
    v_TD: Tensor
    decay_TD: Tensor
    rate_TD: Tensor
    gate_TD: Tensor
    share_TD: Tensor | None = None
    first_TD: Tensor | None = None


@on_device_of_input
def time_mix7(
    rows: Rows7, vectors_6D: Tensor, norm: nn.GroupNorm, packed: Packed, dtype: torch.dtype, states: bool = False
) -> tuple[Tensor, Tensor | None]:
    """What goes into the output projection of a time mix.

    Args:
        rows: of T packed tokens, D = heads * K; K at most 64. Summed in fp32.
        vectors_6D: w0, a0, k_k, k_a, r_k and v0 (in block 0 anything) of the block, fp32.
        norm: one group per head.
        packed: the sentences; the state starts anew in each.
        dtype: of the result. Products within the operator use bf16 and TF32 factors where it is bf16, TF32 where it is
            fp16, and three TF32 products in place of one where it is fp32, which is as exact.
        states: also return the states after each sentence's last token.

    Returns:
        [T, D], and [B, H, K, V] in fp32 or None.
    """
    heads, width = norm.num_groups, norm.num_channels
    channels = width // heads
    out_TD = torch.empty(rows.r_TD.shape, dtype=dtype, device=rows.r_TD.device)
    shape = (len(packed.lengths), heads, channels, channels)
    state_BHKV = torch.empty(shape, device=rows.r_TD.device) if states else None
    if not packed.lengths:
        return out_TD, state_BHKV
    tensors = [getattr(rows, name) for name in rows.__dataclass_fields__]
    tensors += [vectors_6D, norm.weight, norm.bias, packed.cu_seqlens_B1, out_TD]
    constants = {
        "width": width,
        "channels": channels,
        "precision": "tf32x3" if dtype == torch.float32 else "tf32",
        "exact": dtype == torch.float32,
        "residual": rows.share_TD is not None,
        "num_stages": 1,
    }
    grid, block_k = (heads, len(packed.lengths)), triton.next_power_of_2(channels)
    single = packed.longest <= CHUNK and not states
    if single and packed.longest <= 2 * SPAN and dtype == torch.bfloat16:
        short_kernel[grid](*tensors, norm.eps, **constants, block_k=max(32, block_k), span=SPAN, num_warps=1)
    else:
        constants |= {"block_k": max(16, block_k), "chunk": CHUNK, "states": states, "single": single}
        if single and dtype == torch.float16:
            # Fewer registers let three programs run at once in place of two.
            constants["maxnreg"] = 168
        wkv7_kernel[grid](*tensors, state_BHKV, norm.eps, **constants, num_warps=4)
    return out_TD, state_BHKV


@triton.jit
def wkv7_kernel(
    r_ptr,
    k_ptr,
    v_ptr,
    decay_ptr,
    rate_ptr,
    gate_ptr,
    share_ptr,
    first_ptr,
    vectors_ptr,
    weight_ptr,
    bias_ptr,
    offsets_ptr,
    out_ptr,
    state_ptr,
    eps,
    width: tl.constexpr,
    channels: tl.constexpr,
    block_k: tl.constexpr,
    chunk: tl.constexpr,
    precision: tl.constexpr,
    exact: tl.constexpr,
    residual: tl.constexpr,
    states: tl.constexpr,
    single: tl.constexpr,
):
    """out = (norm(wkv7(...)) + bonus * v) * gate for one head of one sentence, as `models.rwkv7.blocks` computes it.

    r, k, v, decay, rate, gate, share and first (see `Rows7`; the last two only where `residual`) and out are [T, D] of
    any float dtype; vectors [6, D] (w0, a0, k_k, k_a, r_k, v0), weight and bias [D] are fp32, offsets [B + 1] int64,
    state [B, H, K, V] fp32, written where `states`. Formulas and names of a chunk as in `ops.wkv7.chunk`.
    Places behind a sentence's end hold zeros and, where a state is kept, do not decay, so they change nothing.
    """
    head = tl.program_id(0)
    sentence = tl.program_id(1)
    channel = tl.arange(0, block_k)
    inside = channel < channels
    cols = head * channels + channel
    start = tl.load(offsets_ptr + sentence)
    end = tl.load(offsets_ptr + sentence + 1)
    # What each product's factors are rounded to.
    kind: tl.constexpr = out_ptr.dtype.element_ty
    state = tl.zeros([block_k, block_k], tl.float32)
    for at in range(start, start + 1 if single else end, chunk):
        rows = (at + tl.arange(0, chunk)).to(tl.int64)
        mask = (rows < end)[:, None] & inside[None, :]
        decay = load_rows(decay_ptr, rows, cols, mask, width)
        k = load_rows(k_ptr, rows, cols, mask, width)
        rate = load_rows(rate_ptr, rows, cols, mask, width)
        r = load_rows(r_ptr, rows, cols, mask, width)
        w0 = vector(0, vectors_ptr, cols, inside, width)
        log_w = scaled_sigmoid(decay.to(tl.float32), w0, LOG2_DECAY, exact)
        if not single:
            log_w = tl.where(mask, log_w, 0.0)
        # From here on in powers of 2. Decays are taken about the middle of the chunk, so no factor is above 2 ** 14.
        total = running_sum(log_w, chunk, precision, split=not exact)
        middle = tl.sum(log_w, 0)[None, :] * 0.5
        up = exp2(total - middle)
        down = reciprocal(up)
        rate = scaled_sigmoid(rate.to(tl.float32), vector(1, vectors_ptr, cols, inside, width), 1.0, exact)
        k = k.to(tl.float32)
        removal = removal_keys(k * vector(2, vectors_ptr, cols, inside, width), SHORTEST_KEY)
        k_a = vector(3, vectors_ptr, cols, inside, width)
        k *= rate * k_a + (1.0 - k_a)
        r = r.to(tl.float32)
        bonus = tl.sum(r * k * vector(4, vectors_ptr, cols, inside, width), 1)
        # Rows that are read are decayed up to their token; rows that were written, from their token on.
        q_rows, r_rows = removal * exp2(total - log_w - middle), r * up
        b_columns, k_columns = rate * removal * down, k * down
        removed, written, scores, inverse = chunk_scores7(
            as_factor(q_rows, kind),
            as_factor(r_rows, kind),
            as_factor(b_columns, kind),
            as_factor(k_columns, kind),
            chunk,
            precision,
        )
        v = load_rows(v_ptr, rows, cols, mask, width).to(tl.float32)
        if residual:
            first = load_rows(first_ptr, rows, cols, mask, width)
            share = load_rows(share_ptr, rows, cols, mask, width)
            share = scaled_sigmoid(share.to(tl.float32), vector(5, vectors_ptr, cols, inside, width), 1.0, exact)
            v += (first.to(tl.float32) - v) * share
        y = tl.dot(as_factor(scores, kind), as_factor(v, kind), input_precision=precision)
        if not single:
            opening = exp2(middle)
            read = tl.dot(q_rows * opening, state, input_precision=precision)
            if at > start:
                y += tl.dot(r_rows * opening, state, input_precision=precision)
                y -= tl.dot(removed, read, input_precision=precision)
            if states or at + chunk < end:
                u = tl.dot(written, v, input_precision=precision) + read
                u = tl.dot(inverse, u, input_precision=precision)
                # From the middle to the end as far as from the start to the middle.
                kept = tl.dot(tl.trans(k_columns * opening), v, input_precision=precision)
                kept -= tl.dot(tl.trans(b_columns * opening), u, input_precision=precision)
                state = tl.trans(opening * opening) * state + kept
        y = head_norm(y, weight_ptr, bias_ptr, cols, inside, eps, channels)
        gate = load_rows(gate_ptr, rows, cols, mask, width)
        y = (y + bonus[:, None] * v) * gate.to(tl.float32)
        tl.store(out_ptr + rows[:, None] * width + cols[None, :], y.to(out_ptr.dtype.element_ty), mask=mask)
    if states:
        row = (sentence * (width // channels) + head).to(tl.int64) * channels * channels
        place = row + channel[:, None] * channels + channel[None, :]
        tl.store(state_ptr + place, state, mask=inside[:, None] & inside[None, :])
