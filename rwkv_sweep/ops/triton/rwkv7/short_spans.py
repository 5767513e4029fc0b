"""What one span of a short sentence gives to the kernel of `time_mix7_short`: keys, removal keys, values, products.

Shapes: T packed tokens, D channels in heads of K, S tokens of a span.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.common.fast_math import exp2, reciprocal, scaled_sigmoid
from rwkv_sweep.ops.triton.common.loading_rows import load_rows
from rwkv_sweep.ops.triton.rwkv7.wkv7_chunk import (
    LOG2_DECAY,
    SHORTEST_KEY,
    as_factor,
    running_sum,
    vector,
)


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
