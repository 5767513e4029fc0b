"""The time mix of `time_mix7` for batches whose sentences all fit in two spans of `SPAN` tokens.

One warp reads one head of one sentence: its first span, and then its second, which reads the first by its keys in place
of a state. With one warp there is nothing to wait for between two steps, and many run at once.

Shapes: T packed tokens, B sentences, D channels in H heads of K (V = K), S tokens of a span.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.common.fast_math import exp2, reciprocal, scaled_sigmoid
from rwkv_sweep.ops.triton.wkv7_chunk import (
    LOG2_DECAY,
    SHORTEST_KEY,
    as_factor,
    chunk_inverse,
    head_norm,
    running_sum,
    vector,
)
from rwkv_sweep.ops.triton.wkv_chunk import load_rows

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


@triton.jit
def span_products(q, r, b, k, precision: tl.constexpr):
    """q @ b^T, q @ k^T, r @ b^T and r @ k^T of some of the channels, [S, S] in fp32."""
    b, k = tl.trans(b), tl.trans(k)
    return (
        tl.dot(q, b, input_precision=precision),
        tl.dot(q, k, input_precision=precision),
        tl.dot(r, b, input_precision=precision),
        tl.dot(r, k, input_precision=precision),
    )


@triton.jit
def span_removal(k_ptr, vectors_ptr, rows, there, cols0, cols1, inside0, inside1, width: tl.constexpr):
    """Both halves of the keys k [T, D] (any float dtype) and of the removal keys k * k_k / |k * k_k|, [S, K / 2] in
    fp32; k_k is a row of vectors [6, D], fp32."""
    k0 = load_rows(k_ptr, rows, cols0, there[:, None] & inside0[None, :], width).to(tl.float32)
    k1 = load_rows(k_ptr, rows, cols1, there[:, None] & inside1[None, :], width).to(tl.float32)
    removal0 = k0 * vector(2, vectors_ptr, cols0, inside0, width)
    removal1 = k1 * vector(2, vectors_ptr, cols1, inside1, width)
    squares = tl.sum(removal0 * removal0, 1) + tl.sum(removal1 * removal1, 1)
    shorter = tl.minimum(tl.rsqrt(squares), 1.0 / SHORTEST_KEY)[:, None]
    return k0, k1, removal0 * shorter, removal1 * shorter


@triton.jit
def span_keys(
    r_ptr,
    decay_ptr,
    rate_ptr,
    vectors_ptr,
    k,
    removal,
    rows,
    there,
    cols,
    inside,
    width: tl.constexpr,
    span: tl.constexpr,
    precision: tl.constexpr,
    exact: tl.constexpr,
    early: tl.constexpr,
    kind: tl.constexpr,
):
    """Q, R, B and K of half a span's channels, [S, K / 2], as in `ops.wkv7.chunk` in the dtype of factors, and their
    sum(r * k * r_k) [S], fp32.

    r, decay and rate are [T, D] of any float dtype, vectors [6, D] fp32. Decays count from the border between the
    two spans, so no factor is above 2 ** 14.
    """
    mask = there[:, None] & inside[None, :]
    decay = load_rows(decay_ptr, rows, cols, mask, width).to(tl.float32)
    rate = load_rows(rate_ptr, rows, cols, mask, width).to(tl.float32)
    r = load_rows(r_ptr, rows, cols, mask, width).to(tl.float32)
    log_w = scaled_sigmoid(decay, vector(0, vectors_ptr, cols, inside, width), LOG2_DECAY, exact)
    total = running_sum(log_w, span, precision, split=False)
    if early:
        total -= tl.sum(log_w, 0)[None, :]
    up = exp2(total)
    down = reciprocal(up)
    rate = scaled_sigmoid(rate, vector(1, vectors_ptr, cols, inside, width), 1.0, exact)
    k_a = vector(3, vectors_ptr, cols, inside, width)
    k *= rate * k_a + (1.0 - k_a)
    bonus = tl.sum(r * k * vector(4, vectors_ptr, cols, inside, width), 1)
    q = as_factor(removal * exp2(total - log_w), kind)
    b = as_factor(rate * removal * down, kind)
    return q, as_factor(r * up, kind), b, as_factor(k * down, kind), bonus


@triton.jit
def span_values(
    v_ptr,
    first_ptr,
    share_ptr,
    vectors_ptr,
    rows,
    cols,
    mask,
    inside,
    width: tl.constexpr,
    exact: tl.constexpr,
    residual: tl.constexpr,
):
    """v + (first - v) * sigmoid(share + v0) of a span, [S, K] in fp32; v where not `residual`. v, first and share are
    [T, D] of any float dtype, vectors [6, D] fp32."""
    v = load_rows(v_ptr, rows, cols, mask, width).to(tl.float32)
    if residual:
        share = load_rows(share_ptr, rows, cols, mask, width).to(tl.float32)
        share = scaled_sigmoid(share, vector(5, vectors_ptr, cols, inside, width), 1.0, exact)
        v += (load_rows(first_ptr, rows, cols, mask, width).to(tl.float32) - v) * share
    return v
