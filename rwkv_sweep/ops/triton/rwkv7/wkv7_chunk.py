"""One chunk of the WKV-7 operator for one head, in Triton functions.

Shapes: C tokens of a chunk, K channels of a head.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

LOG2_DECAY = tl.constexpr(-math.exp(-0.5) * math.log2(math.e))
"""The strongest log decay, to base 2."""
SHORTEST_KEY = tl.constexpr(1e-12)
TF32_BITS = tl.constexpr(-(1 << 13))
"""Those of an fp32 number that TF32 has too."""


@triton.jit
def running_sum(numbers, chunk: tl.constexpr, precision: tl.constexpr, split: tl.constexpr):
    """The sum of each row and all before it, [C, K], fp32, as the product of a triangle of ones and `numbers`: fewer
    instructions than a scan.

    A TF32 product reads the first 10 bits behind the point of each number and drops the rest, so a sum of logarithms
    would always come out too small: by up to 2 ** -10 of itself, which is 3 % of the power where 32 tokens decay as
    strongly as they can. Where `split`, a second product adds what the first one dropped, to 2 ** -20 of the sum.
    """
    steps = tl.arange(0, chunk)
    ones = tl.where(steps[:, None] >= steps[None, :], 1.0, 0.0)
    if split:
        kept = (numbers.to(tl.int32, bitcast=True) & TF32_BITS).to(tl.float32, bitcast=True)
        rest = tl.dot(ones, numbers - kept, input_precision=precision)
        return tl.dot(ones, kept, rest, input_precision=precision)
    else:
        return tl.dot(ones, numbers, input_precision=precision)


@triton.jit
def as_factor(x, kind: tl.constexpr):
    """x [C, K] as a factor of a product: in bf16 where `kind`, the network's dtype, is that, else in fp32 as it is.

    fp16 would not hold what has decayed.
    """
    return x.to(tl.bfloat16) if kind == tl.bfloat16 else x


@triton.jit
def removal_keys(keys, shortest: tl.constexpr):
    """keys / max(length of the row, shortest), [C, K] in fp32."""
    return keys * tl.minimum(tl.rsqrt(tl.sum(keys * keys, 1)), 1.0 / shortest)[:, None]


@triton.jit
def chunk_scores7(q_rows, r_rows, b_columns, k_columns, chunk: tl.constexpr, precision: tl.constexpr):
    """The matrices [C, C] of one chunk, in fp32, under the names of `ops.wkv7.chunk`: R B^T D, Q K^T,
    R K^T - R B^T D Q K^T and D = (I + Q B^T)^-1, each product without what lies above its diagonal."""
    steps = tl.arange(0, chunk)
    earlier, until = steps[:, None] > steps[None, :], steps[:, None] >= steps[None, :]
    b, k = tl.trans(b_columns), tl.trans(k_columns)
    # The long products stand first, so that their factors need not be kept meanwhile.
    lower = tl.where(earlier, tl.dot(q_rows, b, input_precision=precision), 0.0)
    written = tl.where(earlier, tl.dot(q_rows, k, input_precision=precision), 0.0)
    removed = tl.where(until, tl.dot(r_rows, b, input_precision=precision), 0.0)
    scores = tl.where(until, tl.dot(r_rows, k, input_precision=precision), 0.0)
    inverse = chunk_inverse(lower, steps, chunk, precision)
    removed = tl.dot(removed, inverse, input_precision=precision)
    scores -= tl.dot(removed, written, input_precision=precision)
    return removed, written, scores, inverse


@triton.jit
def chunk_inverse(lower, steps, chunk: tl.constexpr, precision: tl.constexpr):
    """(I + lower)^-1 in fp32, for a strictly lower triangular matrix [C, C]; C a power of 2 and at most 64.

    By blocks of 1, 2, 4, ... rows: with D the inverse of the blocks on the diagonal and E what lies below it in blocks
    twice as large, theirs is D - D E D. Every number on the way is one of the result or of a part of it, so nothing
    cancels that would not cancel in a forward substitution.
    """
    inverse = tl.where(steps[:, None] == steps[None, :], 1.0, 0.0) - _below(lower, steps, 1)
    for level in tl.static_range(1, 6):
        if 2 << level <= chunk:
            below = tl.dot(_below(lower, steps, 1 << level), inverse, input_precision=precision)
            inverse -= tl.dot(inverse, below, input_precision=precision)
    return inverse


@triton.jit
def _below(lower, steps, size: tl.constexpr):
    """Of a lower triangular matrix [C, C], fp32, what lies in blocks of 2 * size rows but not in those of size rows."""
    pair, block = steps // (2 * size), steps // size
    keep = (pair[:, None] == pair[None, :]) & (block[:, None] != block[None, :])
    return tl.where(keep, lower, 0.0)


@triton.jit
def vector(index: tl.constexpr, vectors_ptr, cols, inside, width: tl.constexpr):
    """Row `index` of vectors [6, D], fp32, for this head: [1, K], as `cols` numbers its channels."""
    return tl.load(vectors_ptr + index * width + cols, mask=inside, other=0.0)[None, :]


@triton.jit
def head_norm(y, weight_ptr, bias_ptr, cols, inside, eps, channels: tl.constexpr):
    """(y - mean) / sqrt(variance + eps) * weight + bias over the channels of a head, [C, K]; weight, bias [D]. All
    in fp32."""
    weight = tl.load(weight_ptr + cols, mask=inside, other=0.0)
    bias = tl.load(bias_ptr + cols, mask=inside, other=0.0)
    mean = tl.sum(y, 1) / channels
    centred = tl.where(inside[None, :], y - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / channels + eps)
    return centred * rstd[:, None] * weight[None, :] + bias[None, :]
