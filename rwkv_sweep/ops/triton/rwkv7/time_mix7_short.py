"""The time mix of `time_mix7` for batches whose sentences all fit in two spans of `SPAN` tokens.

One warp reads one head of one sentence: its first span, and then its second, which reads the first by its keys in place
of a state. With one warp there is nothing to wait for between two steps, and many run at once.

Shapes: T packed tokens, B sentences, D channels in H heads of K (V = K), S tokens of a span.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.common.loading_rows import load_rows
from rwkv_sweep.ops.triton.rwkv7.short_spans import span_keys, span_products, span_removal, span_values
from rwkv_sweep.ops.triton.rwkv7.wkv7_chunk import (
    as_factor,
    chunk_inverse,
    head_norm,
)

SPAN = 16


@triton.jit
def short_kernel(
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
    eps,
    width: tl.constexpr,
    channels: tl.constexpr,
    block_k: tl.constexpr,
    span: tl.constexpr,
    precision: tl.constexpr,
    exact: tl.constexpr,
    residual: tl.constexpr,
):
    """As `time_mix7.wkv7_kernel` without states: out = (norm(wkv7(...)) + bonus * v) * gate, all [T, D].

    r, k, v, decay, rate, gate, share, first (the last two only where `residual`) and out are of any float dtype,
    vectors [6, D], weight and bias [D] fp32, offsets [B + 1] int64. With A the first span and B the second, the rows U
    of `ops.wkv7.chunk` are U_A = D_A (Q K^T)_AA V_A and U_B = D_B ((Q K^T)_BA V_A + (Q K^T)_BB V_B - (Q B^T)_BA U_A).
    """
    head = tl.program_id(0)
    start = tl.load(offsets_ptr + tl.program_id(1))
    end = tl.load(offsets_ptr + tl.program_id(1) + 1)
    steps = tl.arange(0, span)
    channel = tl.arange(0, block_k)
    inside = channel < channels
    cols = head * channels + channel
    part = tl.arange(0, block_k // 2)
    inside0, inside1 = part < channels, part + block_k // 2 < channels
    cols0 = head * channels + part
    cols1 = cols0 + block_k // 2
    kind: tl.constexpr = out_ptr.dtype.element_ty
    earlier, until = steps[:, None] > steps[None, :], steps[:, None] >= steps[None, :]

    rows = (start + steps).to(tl.int64)
    there = rows < end
    k0, k1, removal0, removal1 = span_removal(k_ptr, vectors_ptr, rows, there, cols0, cols1, inside0, inside1, width)
    qa, ra, ba0, ka0, bonus = span_keys(
        r_ptr,
        decay_ptr,
        rate_ptr,
        vectors_ptr,
        k0,
        removal0,
        rows,
        there,
        cols0,
        inside0,
        width,
        span,
        precision,
        exact,
        1,
        kind,
    )
    lower, written, removed, scores = span_products(qa, ra, ba0, ka0, precision)
    qa, ra, ba1, ka1, bonus1 = span_keys(
        r_ptr,
        decay_ptr,
        rate_ptr,
        vectors_ptr,
        k1,
        removal1,
        rows,
        there,
        cols1,
        inside1,
        width,
        span,
        precision,
        exact,
        1,
        kind,
    )
    bonus += bonus1
    lower1, written1, removed1, scores1 = span_products(qa, ra, ba1, ka1, precision)
    written = tl.where(earlier, written + written1, 0.0)
    removed = tl.where(until, removed + removed1, 0.0)
    inverse = chunk_inverse(tl.where(earlier, lower + lower1, 0.0), steps, span, precision)
    written = tl.dot(inverse, written, input_precision=precision)
    scores = tl.where(until, scores + scores1, 0.0) - tl.dot(removed, written, input_precision=precision)
    mask = there[:, None] & inside[None, :]
    v = span_values(v_ptr, first_ptr, share_ptr, vectors_ptr, rows, cols, mask, inside, width, exact, residual)
    va = as_factor(v, kind)
    y = tl.dot(as_factor(scores, kind), va, input_precision=precision)
    y = head_norm(y, weight_ptr, bias_ptr, cols, inside, eps, channels) + bonus[:, None] * v
    y *= load_rows(gate_ptr, rows, cols, mask, width).to(tl.float32)
    tl.store(out_ptr + rows[:, None] * width + cols[None, :], y.to(kind), mask=mask)

    if start + span < end:
        ua = as_factor(tl.dot(as_factor(written, kind), va, input_precision=precision), kind)
        rows += span
        there = rows < end
        k0, k1, removal0, removal1 = span_removal(
            k_ptr, vectors_ptr, rows, there, cols0, cols1, inside0, inside1, width
        )
        qb, rb, bb, kb, bonus = span_keys(
            r_ptr,
            decay_ptr,
            rate_ptr,
            vectors_ptr,
            k0,
            removal0,
            rows,
            there,
            cols0,
            inside0,
            width,
            span,
            precision,
            exact,
            0,
            kind,
        )
        lower, written, removed, scores = span_products(qb, rb, bb, kb, precision)
        # What Q and R read of the first span: of what was removed there, and of its values.
        q_removed, q_values, r_removed, r_values = span_products(qb, rb, ba0, ka0, precision)
        qb, rb, bb, kb, bonus1 = span_keys(
            r_ptr,
            decay_ptr,
            rate_ptr,
            vectors_ptr,
            k1,
            removal1,
            rows,
            there,
            cols1,
            inside1,
            width,
            span,
            precision,
            exact,
            0,
            kind,
        )
        bonus += bonus1
        lower1, written1, removed1, scores1 = span_products(qb, rb, bb, kb, precision)
        q_removed1, q_values1, r_removed1, r_values1 = span_products(qb, rb, ba1, ka1, precision)
        y = tl.dot(as_factor(r_values + r_values1, kind), va, input_precision=precision)
        y -= tl.dot(as_factor(r_removed + r_removed1, kind), ua, input_precision=precision)
        read = tl.dot(as_factor(q_values + q_values1, kind), va, input_precision=precision)
        read -= tl.dot(as_factor(q_removed + q_removed1, kind), ua, input_precision=precision)
        inverse = chunk_inverse(tl.where(earlier, lower + lower1, 0.0), steps, span, precision)
        removed = tl.dot(tl.where(until, removed + removed1, 0.0), inverse, input_precision=precision)
        mask = there[:, None] & inside[None, :]
        v = span_values(v_ptr, first_ptr, share_ptr, vectors_ptr, rows, cols, mask, inside, width, exact, residual)
        va = as_factor(v, kind)
        written = tl.where(earlier, written + written1, 0.0)
        read = tl.dot(as_factor(written, kind), va, read, input_precision=precision)
        scores = tl.where(until, scores + scores1, 0.0)
        y = tl.dot(as_factor(scores, kind), va, y, input_precision=precision)
        y -= tl.dot(as_factor(removed, kind), as_factor(read, kind), input_precision=precision)
        y = head_norm(y, weight_ptr, bias_ptr, cols, inside, eps, channels) + bonus[:, None] * v
        y *= load_rows(gate_ptr, rows, cols, mask, width).to(tl.float32)
        tl.store(out_ptr + rows[:, None] * width + cols[None, :], y.to(kind), mask=mask)
