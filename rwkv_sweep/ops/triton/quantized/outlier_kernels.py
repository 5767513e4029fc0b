"""The Triton kernels that gather the outlier columns of LLM.int8; what they are for is in `llm_int8`.

Shapes: G groups of T rows of K inputs, N outputs each; C places for outlier columns.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rwkv_sweep.ops.triton.quantized.llm_int8_kernels import as_input


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
