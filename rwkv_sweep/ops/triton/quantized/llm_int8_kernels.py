"""The Triton kernels of LLM.int8; what they compute together is in `llm_int8`.

Shapes: G groups of T rows of K inputs, N outputs each; C places for outlier columns.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.common.dependent_launch import launch_dependents, wait_for_earlier

THRESHOLD = tl.constexpr(6.0)
"""Inputs of this size and more are outliers."""


@triton.jit
def as_input(x, factor, square: tl.constexpr):
    """What the layer reads, rounded to fp16, as fp32."""
    x = x.to(tl.float32)
    if square:
        x = tl.maximum(x, 0.0) * factor
        x = x * x
    return x.to(tl.float16).to(tl.float32)


@triton.jit(do_not_specialize=["tokens"])
def rows_kernel(
    x_ptr,
    q_ptr,
    amax_ptr,
    flags_ptr,
    tokens,
    factor,
    square: tl.constexpr,
    width: tl.constexpr,
    block: tl.constexpr,
):
    """x [G * T, K] to q (int8, 0 where an entry reaches the threshold) and amax [G * T] over the others, and 1 in
    flags [G, K] (int32, zeros before) for each column with such an entry. One program a row."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, block)
    mask = cols < width
    x = as_input(tl.load(x_ptr + row * width + cols, mask=mask, other=0.0), factor, square)
    # Written so that NaN counts as an outlier, and is not lost.
    inside = tl.abs(x) < THRESHOLD
    kept = tl.where(inside, x, 0.0)
    amax = tl.max(tl.abs(kept), 0)
    scaled = kept * tl.where(amax == 0.0, 0.0, tl.div_rn(127.0, amax))
    q = (scaled + 12582912.0) - 12582912.0
    tl.store(q_ptr + row * width + cols, q.to(tl.int8), mask=mask)
    tl.store(amax_ptr + row, amax)
    group = row // tokens
    tl.store(flags_ptr + group * width + cols, 1, mask=mask & (inside == 0))


@triton.jit(do_not_specialize=["tokens"])
def many_rows_kernel(
    q_ptr,
    amax_ptr,
    weight_ptr,
    column_amax_ptr,
    out_ptr,
    left_ptr,
    gathered_ptr,
    count_ptr,
    tokens,
    outputs: tl.constexpr,
    inner: tl.constexpr,
    space: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    step: tl.constexpr,
    band: tl.constexpr,
):
    """out = (q @ weight.T) * amax / 127 * column_amax / 127 + left @ gathered.T, the sum of `ops.triton.llm_int8`.

    q [G, T, K] and weight [G, N, K] int8, amax [G, T] and column_amax [G, N] fp32, left [G, T, C] and gathered [G, N,
    C] fp16, of which the first count [G] places are read (int32); out [G, T, N] of any float dtype. One program a tile
    of out. Tiles go in bands of rows, so that neighbours in time share weights and inputs in the L2 cache.
    """
    group = tl.program_id(1).to(tl.int64)
    tile = tl.program_id(0)
    tiles_down, tiles_across = tl.cdiv(tokens, rows), tl.cdiv(outputs, columns)
    first = tile // (band * tiles_across) * band
    height = tl.minimum(tiles_down - first, band)
    row = (first + tile % (band * tiles_across) % height) * rows + tl.arange(0, rows)
    column = tile % (band * tiles_across) // height * columns + tl.arange(0, columns)
    # Rows and columns beyond the end read the last one again; their results are not stored.
    from_row = group * tokens + tl.minimum(row, tokens - 1)
    from_column = group * outputs + tl.minimum(column, outputs - 1)
    k = tl.arange(0, depth)
    q_at = q_ptr + from_row[:, None] * inner + k[None, :]
    weight_at = weight_ptr + from_column[None, :] * inner + k[:, None]
    total = tl.zeros([rows, columns], tl.int32)
    for start in range(0, inner, depth):
        left = k < inner - start
        q = tl.load(q_at + start, mask=left[None, :], other=0)
        weight = tl.load(weight_at + start, mask=left[:, None], other=0)
        total = tl.dot(q, weight, total, out_dtype=tl.int32)
    amax = tl.load(amax_ptr + from_row) * (1.0 / 127.0)
    column_amax = tl.load(column_amax_ptr + from_column) * (1.0 / 127.0)
    out = total.to(tl.float32) * amax[:, None] * column_amax[None, :]
    steps = tl.arange(0, step)
    left_at = left_ptr + from_row[:, None] * space + steps[None, :]
    gathered_at = gathered_ptr + from_column[None, :] * space + steps[:, None]
    count = tl.load(count_ptr + group)
    for start in range(0, count, step):
        out = tl.dot(tl.load(left_at + start), tl.load(gathered_at + start), out)
    out_at = out_ptr + (group * tokens + row)[:, None] * outputs + column[None, :]
    tl.store(out_at, out.to(out_ptr.dtype.element_ty), mask=(row < tokens)[:, None] & (column < outputs)[None, :])


@triton.jit
def amax_kernel(
    x_ptr,
    amax_ptr,
    count_ptr,
    factor,
    square: tl.constexpr,
    width: tl.constexpr,
    block: tl.constexpr,
    counters: tl.constexpr,
    counters_block: tl.constexpr,
    dependent: tl.constexpr,
):
    """amax [G * T] (fp32) = the largest size below the threshold in each row of x [G * T, K]; one program a row.

    The first one also writes zeros to count [counters] (int32), for the matmul that follows.
    """
    if dependent:
        launch_dependents()
        wait_for_earlier()
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, block)
    x = as_input(tl.load(x_ptr + row * width + cols, mask=cols < width, other=0.0), factor, square)
    tl.store(amax_ptr + row, tl.max(tl.where(tl.abs(x) < THRESHOLD, tl.abs(x), 0.0), 0))
    if row == 0:
        place = tl.arange(0, counters_block)
        tl.store(count_ptr + place, tl.zeros([counters_block], tl.int32), mask=place < counters)


@triton.jit(do_not_specialize=["tokens"])
def as_multiplied_kernel(
    x_ptr,
    amax_ptr,
    out_ptr,
    tokens,
    factor,
    square: tl.constexpr,
    inner: tl.constexpr,
    rows: tl.constexpr,
    slab: tl.constexpr,
    part: tl.constexpr,
    dependent: tl.constexpr,
):
    """out = what a weight is multiplied with: x itself in a column with an outlier, elsewhere q * amax / 127, in fp16.

    x [G, T, K] of any float dtype, out [G, T, K] fp16, amax [G, T] fp32. Of each `slab` columns out has the even ones
    first, then the odd ones: so the rows of int8 weights, two numbers a word, are what `few_tokens_kernel` reads. One
    program for `part` columns of all rows of a group.
    """
    if dependent:
        launch_dependents()
        wait_for_earlier()
    group = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, rows)
    there = (row < tokens)[:, None]
    place = tl.arange(0, part // 2)
    first = tl.program_id(0) * part
    from_x = x_ptr + (group * tokens + row)[:, None] * inner + first + 2 * place[None, :]
    to_out = (
        out_ptr + (group * tokens + row)[:, None] * inner + first // slab * slab + first % slab // 2 + place[None, :]
    )
    amax = tl.load(amax_ptr + group * tokens + row, mask=row < tokens, other=0.0)
    scale = amax * (1.0 / 127.0)
    inverse = tl.where(amax == 0.0, 0.0, tl.div_rn(127.0, amax))
    for odd in tl.static_range(2):
        x = as_input(tl.load(from_x + odd, mask=there, other=0.0), factor, square)
        inside = tl.abs(x) < THRESHOLD
        has_one = tl.max(1 - inside.to(tl.int32), 0)
        scaled = tl.where(inside, x, 0.0) * inverse[:, None]
        q = (scaled + 12582912.0) - 12582912.0
        multiplied = tl.where((has_one != 0)[None, :], x, q * scale[:, None])
        tl.store(to_out + odd * (slab // 2), multiplied.to(tl.float16), mask=there)
