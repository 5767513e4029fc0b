"""The Triton kernel of linear layers over few tokens: a matmul bound by reading weights.

Weights are read once, in 16, 8 or 4 bits, and become numbers of the inputs' dtype in registers. The tile of a program
is a part of out transposed, [columns, rows]: weights are the first factor of the tensor cores' product, which may come
from registers.

Shapes: G layers of one shape, T tokens, K inputs, N outputs.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.common.dependent_launch import launch_dependents, wait_for_earlier
from rwkv_sweep.ops.triton.quantized.few_bits import (
    FOUR_BITS,
    GROUP,
    INT8,
    ROWS,
    SLAB,
    numbers_of,
    of_group,
    scaled,
)


@triton.jit
def step_of(number, turn, first, count):
    """The step of the inner dimension, int32, that a program of `count` steps from `first` takes as its `number`-th."""
    place = number + turn
    return first + tl.where(place >= count, place - count, place)


@triton.jit(do_not_specialize=["tokens"])
def few_tokens_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    second_ptr,
    table_ptr,
    row_scale_ptr,
    offset,
    partial_ptr,
    count_ptr,
    out_ptr,
    tokens,
    square_factor,
    scale_factor,
    inner: tl.constexpr,
    outputs: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    splits: tl.constexpr,
    kind: tl.constexpr,
    instructions: tl.constexpr,
    nested: tl.constexpr,
    shifted: tl.constexpr,
    square: tl.constexpr,
    dependent: tl.constexpr,
):
    """out = x @ weight.T, or (relu(x @ weight.T) * square_factor) ** 2 where `square`.

    x [G, T, K] and out [G, T, N] are fp16 or bf16. weight is [G, N, K] in their dtype (`PLAIN`), or words of 16 bits:
    [G, N, K / 2] of two int8 with scale [G, N], times scale_factor (`INT8`), or [G, N, K / 4] of four codes with scale
    [G, K / 64, N] in fp32, or, where `shifted`, in int32 (`of_group`). Where `nested`, scale [N, K / 64] (uint8) is a
    place of table [256] (fp32), to be multiplied with second [its own place / 256], plus offset, and G is 1. With
    `ROWS`, x and weight [G, N, K] are both int8 or both fp8, times row_scale [G, T] and scale [G, N], fp32.

    One program for `columns` outputs of all tokens over one of `splits` parts of K. Of the programs of one tile the
    last to finish adds up partial [G, tiles, splits, columns, rows] (fp32; int32 of int8 rows), in order; count
    [G, tiles] (int32) is 0 before and after.
    """
    group = tl.program_id(1).to(tl.int64)
    tile = tl.program_id(0) // splits
    split = tl.program_id(0) % splits
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    steps: tl.constexpr = (inner + depth - 1) // depth
    per_split: tl.constexpr = (steps + splits - 1) // splits
    first = split * per_split
    last = tl.minimum(first + per_split, steps)
    column = tile * columns + tl.arange(0, columns)
    from_column = group * outputs + tl.minimum(column, outputs - 1)
    row = tl.arange(0, rows)
    # In words of 16 bits, one, two or four weights; in rows of 8 bits one.
    per_word: tl.constexpr = 4 if kind == FOUR_BITS else (2 if kind == INT8 else 1)
    weight_at = weight_ptr + from_column[:, None] * (inner // per_word)
    # Programs that start at different places do not ask one part of the L2 cache for the same inputs at once.
    count = last - first
    turn = (tile * 5 + group.to(tl.int32) * 3) % tl.maximum(count, 1)
    if dependent:
        wait_for_earlier()
    x_at = x_ptr + (group * tokens + tl.minimum(row, tokens - 1))[None, :] * inner
    sum_type: tl.constexpr = tl.int32 if dtype == tl.int8 else tl.float32
    # Sums of their own let products of one step run one behind another without waiting.
    total = tl.zeros([columns, rows], sum_type)
    total1 = tl.zeros([columns, rows], tl.float32)
    total2 = tl.zeros([columns, rows], tl.float32)
    total3 = tl.zeros([columns, rows], tl.float32)
    if kind == FOUR_BITS:
        quarter = tl.arange(0, SLAB // 4)
        for number in range(0, count):
            step = step_of(number, turn, first, count)
            from_x = x_at + step * SLAB + quarter[:, None]
            words = tl.load(weight_at + step * (SLAB // 4) + quarter[None, :])
            at = (group * (inner // GROUP) + 2 * step) * outputs + tl.minimum(column, outputs - 1)
            flat = from_column * (inner // GROUP) + 2 * step
            factor, summand = of_group(scale_ptr, second_ptr, table_ptr, offset, at, flat, nested, shifted, dtype)
            n0, n1, n2, n3 = numbers_of(words, instructions, kind, dtype)
            total = tl.dot(scaled(n0, factor, summand, shifted, dtype), tl.load(from_x), total)
            total1 = tl.dot(scaled(n1, factor, summand, shifted, dtype), tl.load(from_x + SLAB // 4), total1)
            at += outputs
            factor2, summand2 = of_group(scale_ptr, second_ptr, table_ptr, offset, at, flat + 1, nested, shifted, dtype)
            total2 = tl.dot(scaled(n2, factor2, summand2, shifted, dtype), tl.load(from_x + SLAB // 2), total2)
            total3 = tl.dot(scaled(n3, factor2, summand2, shifted, dtype), tl.load(from_x + SLAB // 4 * 3), total3)
    elif kind == INT8:
        half = tl.arange(0, SLAB // 2)
        for number in range(0, count):
            step = step_of(number, turn, first, count)
            from_x = x_at + step * SLAB + half[:, None]
            words = tl.load(weight_at + step * (SLAB // 2) + half[None, :])
            n0, n1 = numbers_of(words, instructions, kind, dtype)
            total = tl.dot(n0, tl.load(from_x), total)
            total = tl.dot(n1, tl.load(from_x + SLAB // 2), total)
    else:
        k = tl.arange(0, depth)
        for number in range(0, count):
            start = step_of(number, turn, first, count) * depth
            if inner % depth == 0:
                x = tl.load(x_at + start + k[:, None])
                weight = tl.load(weight_at + start + k[None, :])
            else:
                inside = k < inner - start
                x = tl.load(x_at + start + k[:, None], mask=inside[:, None], other=0.0)
                weight = tl.load(weight_at + start + k[None, :], mask=inside[None, :], other=0.0)
            total = tl.dot(weight, x, total, out_dtype=sum_type)
    if kind == FOUR_BITS:
        total = (total + total1) + (total2 + total3)
    if dependent:
        launch_dependents()
    if splits > 1:
        tiles = tl.num_programs(0) // splits
        own = (group * tiles + tile) * splits
        place = tl.arange(0, columns)[:, None] * rows + row[None, :]
        tl.store(partial_ptr + (own + split) * (columns * rows) + place, total)
        tl.debug_barrier()
        done = tl.atomic_add(count_ptr + group * tiles + tile, 1, sem="acq_rel", scope="gpu")
        if done == splits - 1:
            total = tl.zeros([columns, rows], sum_type)
            # Written out, so that all parts are asked for before the first arrives.
            for part in tl.static_range(splits):
                total += tl.load(partial_ptr + (own + part) * (columns * rows) + place, cache_modifier=".cg")
            store_tile(
                total,
                scale_ptr,
                row_scale_ptr,
                out_ptr,
                group,
                column,
                row,
                tokens,
                square_factor,
                scale_factor,
                from_column,
                outputs,
                kind,
                square,
            )
            tl.store(count_ptr + group * tiles + tile, 0)
    else:
        store_tile(
            total,
            scale_ptr,
            row_scale_ptr,
            out_ptr,
            group,
            column,
            row,
            tokens,
            square_factor,
            scale_factor,
            from_column,
            outputs,
            kind,
            square,
        )


@triton.jit
def store_tile(
    total,
    scale_ptr,
    row_scale_ptr,
    out_ptr,
    group,
    column,
    row,
    tokens,
    square_factor,
    scale_factor,
    from_column,
    outputs: tl.constexpr,
    kind: tl.constexpr,
    square: tl.constexpr,
):
    """out[row, column] = total[column, row], a tile of out [G, T, N] in its own dtype: for `INT8` times scale [G, N] *
    scale_factor, for `ROWS` times row_scale [G, T] and scale, and where `square` as (relu(total) * square_factor) ** 2.
    """
    if kind == INT8:
        total *= (tl.load(scale_ptr + from_column).to(tl.float32) * scale_factor)[:, None]
    if kind == ROWS:
        row_scale = tl.load(row_scale_ptr + group * tokens + tl.minimum(row, tokens - 1))
        total = total.to(tl.float32) * row_scale[None, :] * tl.load(scale_ptr + from_column)[:, None]
    if square:
        total = tl.maximum(total, 0.0) * square_factor
        total = total * total
    out_at = out_ptr + (group * tokens + row)[None, :] * outputs + column[:, None]
    mask = (row < tokens)[None, :] & (column < outputs)[:, None]
    tl.store(out_at, total.to(out_ptr.dtype.element_ty), mask=mask)
