"""LLM.int8 (arXiv 2208.07339) on a GPU without a look at the device from the host, so that a CUDA graph can hold it.

    out = (q @ weight.T) * amax / 127 * amax_N / 127 + (x - q * amax / 127)[:, O] @ (weight * amax_N / 127)[:, O].T

q are the inputs as int8 rows, with amax of each row over its entries below the threshold; O are the columns where any
entry reaches it. bitsandbytes leaves those columns out of the first product and takes x in the second; here they stay
in the first, and the second takes what is left of x, which is the same sum. How many columns O has is known on the
device alone: the second product's loop reads its length from there.

Shapes: G groups of T rows of K inputs, N outputs each, T the same in every group; a layer alone is G = 1.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkv_sweep.models.kernels.launching import on_device_of_input

THRESHOLD = tl.constexpr(6.0)
FEW = 128
"""Up to so many rows one program sees all of them, and finds the columns by itself."""
OUTLIER = tl.constexpr(-128)
"""Stands in q for an entry that reaches the threshold; all others lie between -127 and 127."""
STEP = 64
"""Columns of O that the second product takes at once."""
ROWS, COLUMNS, DEPTH, BAND = 128, 256, 128, 8
"""Tile of the result, slice of the inner dimension, and tiles of rows walked over before the next tile of columns."""


@on_device_of_input
def llm_int8_product(
    x_GTK: Tensor,
    weight_GNK: Tensor,
    amax_GN: Tensor,
    dtype: torch.dtype,
    square_factor: float | None = None,
) -> Tensor:
    """Inputs [G, T, K] of any float dtype, rounded to fp16, to outputs [G, T, N] in `dtype`.

    Args:
        weight_GNK: int8 rows.
        amax_GN: fp32; weight * amax / 127 are the weights.
        square_factor: where given, the inputs are (relu(x) * square_factor) ** 2 in place of x.
    """
    groups, tokens, inner = x_GTK.shape
    outputs = weight_GNK.shape[1]
    device = x_GTK.device
    out_GTN = torch.empty(groups, tokens, outputs, dtype=dtype, device=device)
    if not tokens:
        return out_GTN
    x_GTK = x_GTK.contiguous()
    q_GTK = torch.empty(x_GTK.shape, dtype=torch.int8, device=device)
    amax_GT = torch.empty(groups, tokens, device=device)
    few = tokens <= FEW
    flags_GK = amax_GT if few else torch.zeros(groups, inner, dtype=torch.int32, device=device)
    square = {"factor": 1.0 if square_factor is None else square_factor, "square": square_factor is not None}
    block = triton.next_power_of_2(inner)
    rows_kernel[(groups * tokens,)](
        x_GTK,
        q_GTK,
        amax_GT,
        flags_GK,
        tokens,
        **square,
        width=inner,
        block=block,
        flag=not few,
        num_warps=min(16, max(1, block // 512)),
    )
    arguments = (x_GTK, q_GTK, amax_GT, weight_GNK, amax_GN, out_GTN)
    if few:
        rows = max(16, triton.next_power_of_2(tokens))
        columns, depth = (32, 128) if rows <= 64 else (64, 128)
        few_rows_kernel[(triton.cdiv(outputs, columns), groups)](
            *arguments,
            tokens,
            **square,
            outputs=outputs,
            inner=inner,
            rows=rows,
            columns=columns,
            depth=depth,
            num_warps=4,
            num_stages=4,
        )
        return out_GTN
    _many_rows(arguments, flags_GK, square)
    return out_GTN


def _many_rows(arguments: tuple[Tensor, ...], flags_GK: Tensor, square: dict[str, float | bool]) -> None:
    """Index the columns, gather what is left of them, and multiply."""
    (groups, tokens, inner), outputs, device = arguments[0].shape, arguments[3].shape[1], flags_GK.device
    index_GK = torch.empty(groups, inner, dtype=torch.int32, device=device)
    count_G = torch.empty(groups, dtype=torch.int32, device=device)
    index_kernel[(groups,)](flags_GK, index_GK, count_G, width=inner, block=triton.next_power_of_2(inner), num_warps=8)
    # Room for the case that all columns are in O; a program beyond the number of columns returns at once.
    space = triton.cdiv(inner, STEP) * STEP
    left_GTC = torch.empty(groups, tokens, space, dtype=torch.float16, device=device)
    weight_GNC = torch.empty(groups, outputs, space, dtype=torch.float16, device=device)
    tiles_x, tiles_w = triton.cdiv(tokens, 64), triton.cdiv(outputs, 64)
    gather_kernel[(tiles_x + tiles_w, space // STEP, groups)](
        *arguments[:5],
        index_GK,
        count_G,
        left_GTC,
        weight_GNC,
        tokens,
        tiles_x,
        **square,
        outputs=outputs,
        inner=inner,
        space=space,
        rows=64,
        step=STEP,
        num_warps=4,
    )
    grid = (triton.cdiv(tokens, ROWS) * triton.cdiv(outputs, COLUMNS), groups)
    many_rows_kernel[grid](
        *arguments[1:],
        left_GTC,
        weight_GNC,
        count_G,
        tokens,
        outputs=outputs,
        inner=inner,
        space=space,
        rows=ROWS,
        columns=COLUMNS,
        depth=DEPTH,
        step=STEP,
        band=BAND,
        num_warps=8,
        num_stages=3,
    )


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
    flag: tl.constexpr,
):
    """x [G * T, K] to q (int8, `OUTLIER` where an entry reaches the threshold) and amax [G * T] over the others; where
    `flag`, also 1 in flags [G, K] (int32, zeros before) for each column with such an entry. One program a row."""
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
    tl.store(q_ptr + row * width + cols, tl.where(inside, q, -128.0).to(tl.int8), mask=mask)
    tl.store(amax_ptr + row, amax)
    if flag:
        group = row // tokens
        tl.store(flags_ptr + group * width + cols, 1, mask=mask & (inside == 0))


@triton.jit
def index_kernel(flags_ptr, index_ptr, count_ptr, width: tl.constexpr, block: tl.constexpr):
    """The flagged columns of a group in order, and their number. One program a group."""
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
    """Of the columns O: x - q * amax / 127 as left [G, T, C] and weight * amax / 127 as gathered [G, N, C], both fp16,
    zeros up to the next multiple of `step`. One program for `rows` rows of one of the two and `step` columns."""
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
            left = x - tl.where(q == OUTLIER, 0.0, q) * (amax[:, None] * (1.0 / 127.0))
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
    """See the module; one program a tile of out [G, T, N]. Tiles go in bands of rows, so that neighbours in time share
    weights and inputs in the L2 cache."""
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
        q = tl.where(q == OUTLIER, 0, q).to(tl.int8)
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
    tokens,
    factor,
    square: tl.constexpr,
    outputs: tl.constexpr,
    inner: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
):
    """As `many_rows_kernel` where one tile has all rows of a group: a column is in O if q says so in any of them."""
    group = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, rows)
    column = tl.program_id(0) * columns + tl.arange(0, columns)
    there = row < tokens
    from_row = group * tokens + tl.minimum(row, tokens - 1)
    from_column = group * outputs + tl.minimum(column, outputs - 1)
    k = tl.arange(0, depth)
    q_at = q_ptr + from_row[:, None] * inner + k[None, :]
    x_at = x_ptr + from_row[:, None] * inner + k[None, :]
    weight_at = weight_ptr + from_column[None, :] * inner + k[:, None]
    amax = tl.load(amax_ptr + from_row) * (1.0 / 127.0)
    total = tl.zeros([rows, columns], tl.int32)
    beside = tl.zeros([rows, columns], tl.float32)
    for start in range(0, inner, depth):
        inside = k < inner - start
        q = tl.load(q_at + start, mask=there[:, None] & inside[None, :], other=0)
        weight = tl.load(weight_at + start, mask=inside[:, None], other=0)
        outlier = q == OUTLIER
        column_has = tl.max(outlier.to(tl.int32), 0)
        q = tl.where(outlier, 0, q).to(tl.int8)
        total = tl.dot(q, weight, total, out_dtype=tl.int32)
        if tl.max(column_has, 0) != 0:
            mask = there[:, None] & (inside & (column_has != 0))[None, :]
            x = as_input(tl.load(x_at + start, mask=mask, other=0.0), factor, square)
            left = tl.where(mask, x - q.to(tl.float32) * amax[:, None], 0.0)
            beside = tl.dot(left.to(tl.float16), weight.to(tl.float16), beside)
    column_amax = tl.load(column_amax_ptr + from_column) * (1.0 / 127.0)
    out = (total.to(tl.float32) * amax[:, None] + beside) * column_amax[None, :]
    out_at = out_ptr + (group * tokens + row)[:, None] * outputs + column[None, :]
    tl.store(out_at, out.to(out_ptr.dtype.element_ty), mask=there[:, None] & (column < outputs)[None, :])
