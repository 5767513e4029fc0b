"""The Triton kernels of LLM.int8; what they compute together is in `llm_int8`.

Shapes: G groups of T rows of K inputs, N outputs each; C places for outlier columns.
"""

from __future__ import annotations

import triton
import triton.language as tl

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
    depth: tl.constexpr,
    few: tl.constexpr,
):
    """x [G * T, K] to q (int8, 0 where an entry reaches the threshold) and amax [G * T] over the others. One program a
    row. Where `few`, also flags [G * T, slices] (int8): whether the row has such an entry in each slice of `depth`
    columns; otherwise 1 in flags [G, K] (int32, zeros before) for each column with one."""
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
    if few:
        of_slices = tl.max(tl.reshape(1 - inside.to(tl.int32), [block // depth, depth]), 1)
        slices = (width + depth - 1) // depth
        place = tl.arange(0, block // depth)
        tl.store(flags_ptr + row * slices + place, of_slices.to(tl.int8), mask=place < slices)
    else:
        group = row // tokens
        tl.store(flags_ptr + group * width + cols, 1, mask=mask & (inside == 0))


@triton.jit
def index_kernel(flags_ptr, index_ptr, count_ptr, width: tl.constexpr, block: tl.constexpr):
    """index = the flagged columns of a group in order, and count = their number.

    flags [G, K], index [G, K] and count [G] are int32; places of index from count on stay unwritten. One program a
    group.
    """
    group = tl.program_id(0)
    cols = tl.arange(0, block)
    flags = tl.load(flags_ptr + group * width + cols, mask=cols < width, other=0)
    place = tl.cumsum(flags, 0) - 1
    tl.store(index_ptr + group * width + place, cols, mask=flags != 0)
    tl.store(count_ptr + group, tl.sum(flags, 0))


@triton.jit(do_not_specialize=["tokens", "tiles_x"])
def gather_kernel(
    x_ptr,
    q_ptr,
    amax_ptr,
    weight_ptr,
    column_amax_ptr,
    index_ptr,
    count_ptr,
    left_ptr,
    gathered_ptr,
    tokens,
    tiles_x,
    factor,
    square: tl.constexpr,
    outputs: tl.constexpr,
    inner: tl.constexpr,
    space: tl.constexpr,
    rows: tl.constexpr,
    step: tl.constexpr,
):
    """left = (x - q * amax / 127)[:, O] and gathered = (weight * column_amax / 127)[:, O] of the columns O.

    x [G, T, K] of any float dtype, q [G, T, K] and weight [G, N, K] int8, amax [G, T] and column_amax [G, N] fp32; O
    are the first count [G] entries of index [G, K], int32. left [G, T, C] and gathered [G, N, C] are fp16, zeros up to
    the next multiple of `step`. One program for `rows` rows of one of the two and `step` columns.
    """
    group = tl.program_id(2).to(tl.int64)
    count = tl.load(count_ptr + group)
    place = tl.program_id(1) * step + tl.arange(0, step)
    if tl.program_id(1) * step < count:
        column = tl.load(index_ptr + group * inner + place, mask=place < count, other=0)
        tile = tl.program_id(0)
        if tile < tiles_x:
            row = tile * rows + tl.arange(0, rows)
            mask = (row < tokens)[:, None] & (place < count)[None, :]
            at = (group * tokens + row)[:, None] * inner + column[None, :]
            x = as_input(tl.load(x_ptr + at, mask=mask, other=0.0), factor, square)
            q = tl.load(q_ptr + at, mask=mask, other=0).to(tl.float32)
            amax = tl.load(amax_ptr + group * tokens + row, mask=row < tokens, other=0.0)
            left = x - q * (amax[:, None] * (1.0 / 127.0))
            to = (group * tokens + row)[:, None] * space + place[None, :]
            tl.store(left_ptr + to, tl.where(mask, left, 0.0).to(tl.float16), mask=(row < tokens)[:, None])
        else:
            row = (tile - tiles_x) * rows + tl.arange(0, rows)
            mask = (row < outputs)[:, None] & (place < count)[None, :]
            at = (group * outputs + row)[:, None] * inner + column[None, :]
            weight = tl.load(weight_ptr + at, mask=mask, other=0).to(tl.float32)
            amax = tl.load(column_amax_ptr + group * outputs + row, mask=row < outputs, other=0.0)
            to = (group * outputs + row)[:, None] * space + place[None, :]
            weight = weight * (amax[:, None] * (1.0 / 127.0))
            tl.store(gathered_ptr + to, weight.to(tl.float16), mask=(row < outputs)[:, None])


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


@triton.jit(do_not_specialize=["tokens"])
def few_rows_kernel(
    x_ptr,
    q_ptr,
    amax_ptr,
    weight_ptr,
    column_amax_ptr,
    out_ptr,
    flags_ptr,
    tokens,
    factor,
    square: tl.constexpr,
    outputs: tl.constexpr,
    inner: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    slices: tl.constexpr,
    block: tl.constexpr,
):
    """As `many_rows_kernel` where one tile has all rows of a group, and finds the columns O of a slice by itself.

    x [G, T, K] of any float dtype, q [G, T, K] and weight [G, N, K] int8, amax [G, T] and column_amax [G, N] fp32;
    flags [G, T, slices] (int8) of `rows_kernel`; out [G, T, N] of any float dtype. One program for `columns` outputs of
    a group.
    """
    group = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, rows)
    column = tl.program_id(0) * columns + tl.arange(0, columns)
    there = row < tokens
    from_row = group * tokens + tl.minimum(row, tokens - 1)
    from_column = group * outputs + tl.minimum(column, outputs - 1)
    # One bit for each slice with an outlier in any row.
    place = tl.arange(0, block)
    flags = tl.load(flags_ptr + from_row[:, None] * slices + place[None, :], mask=(place < slices)[None, :], other=0)
    of_slices = tl.max(flags.to(tl.int32), 0).to(tl.int64)
    with_outliers = tl.sum(of_slices << place.to(tl.int64), 0)
    k = tl.arange(0, depth)
    q_at = q_ptr + from_row[:, None] * inner + k[None, :]
    weight_at = weight_ptr + from_column[None, :] * inner + k[:, None]
    total = tl.zeros([rows, columns], tl.int32)
    for start in range(0, inner, depth):
        inside = k < inner - start
        q = tl.load(q_at + start, mask=inside[None, :], other=0)
        weight = tl.load(weight_at + start, mask=inside[:, None], other=0)
        total = tl.dot(q, weight, total, out_dtype=tl.int32)
    amax = tl.load(amax_ptr + from_row) * (1.0 / 127.0)
    out = total.to(tl.float32) * amax[:, None]
    if with_outliers != 0:
        x_at = x_ptr + from_row[:, None] * inner + k[None, :]
        for number in range(0, slices):
            if (with_outliers >> number) & 1 != 0:
                start = number * depth
                inside = k < inner - start
                mask = there[:, None] & inside[None, :]
                x = as_input(tl.load(x_at + start, mask=mask, other=0.0), factor, square)
                q = tl.load(q_at + start, mask=mask, other=0)
                weight = tl.load(weight_at + start, mask=inside[:, None], other=0)
                has_one = tl.max((1 - (tl.abs(x) < THRESHOLD).to(tl.int32)) * mask.to(tl.int32), 0)
                left = tl.where((has_one != 0)[None, :], x - q.to(tl.float32) * amax[:, None], 0.0)
                out = tl.dot(left.to(tl.float16), weight.to(tl.float16), out)
    column_amax = tl.load(column_amax_ptr + from_column) * (1.0 / 127.0)
    out_at = out_ptr + (group * tokens + row)[:, None] * outputs + column[None, :]
    out *= column_amax[None, :]
    tl.store(out_at, out.to(out_ptr.dtype.element_ty), mask=there[:, None] & (column < outputs)[None, :])
