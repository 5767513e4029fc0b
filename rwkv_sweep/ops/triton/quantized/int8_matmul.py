"""A GEMM of int8 rows with int8 rows, scaled row by row as it leaves the registers.

PyTorch's own int8 GEMM writes 32-bit integers, which a second pass must read, scale and write again: that costs more
than the faster GEMM gains.

Shapes: T rows, K inputs, N outputs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkv_sweep.ops.triton.common.launching import on_device_of_input

ROWS, COLUMNS, DEPTH, GROUP = 128, 256, 128, 8
"""Tile of the result, slice of the inner dimension, and tiles of rows walked over before the next tile of columns."""


@on_device_of_input
def int8_matmul(q_TK: Tensor, scale_T: Tensor, weight_NK: Tensor, scale_N: Tensor, dtype: torch.dtype) -> Tensor:
    """As `ops.rowwise.matmul_reference`, on a GPU: [T, N] in `dtype`."""
    tokens, inner = q_TK.shape
    outputs = len(weight_NK)
    out_TN = torch.empty(tokens, outputs, dtype=dtype, device=q_TK.device)
    if tokens:
        # A pair's few dozen tokens fill no large tile.
        rows, columns, warps = (ROWS, COLUMNS, 8) if tokens > 512 else (64, 64, 4)
        grid = (triton.cdiv(tokens, rows) * triton.cdiv(outputs, columns),)
        matmul_kernel[grid](
            q_TK.contiguous(),
            weight_NK,
            scale_T,
            scale_N,
            out_TN,
            tokens,
            outputs=outputs,
            inner=inner,
            rows=rows,
            columns=columns,
            depth=DEPTH,
            group=GROUP,
            num_warps=warps,
            num_stages=3,
        )
    return out_TN


@triton.jit(do_not_specialize=["tokens"])
def matmul_kernel(
    q_ptr,
    weight_ptr,
    row_scale_ptr,
    column_scale_ptr,
    out_ptr,
    tokens,
    outputs: tl.constexpr,
    inner: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    group: tl.constexpr,
):
    """out = (q @ weight.T) * row_scale * column_scale, as `ops.rowwise.matmul_reference`.

    q [T, K] and weight [N, K] are int8, row_scale [T] and column_scale [N] fp32, out [T, N] of any float dtype; sums
    are 32-bit integers. One program makes one tile of out, `rows` x `columns`, over slices of `depth` inputs.
    """
    # Tiles in groups of rows, so that neighbours in time share weights and inputs in the L2 cache.
    tile = tl.program_id(0)
    tiles_down, tiles_across = tl.cdiv(tokens, rows), tl.cdiv(outputs, columns)
    band = tile // (group * tiles_across)
    height = tl.minimum(tiles_down - band * group, group)
    down = band * group + (tile % (group * tiles_across)) % height
    across = (tile % (group * tiles_across)) // height
    row = down * rows + tl.arange(0, rows)
    column = across * columns + tl.arange(0, columns)
    k = tl.arange(0, depth)
    # Rows beyond the end read the last one again; their results are not stored.
    q_at = q_ptr + tl.minimum(row, tokens - 1).to(tl.int64)[:, None] * inner + k[None, :]
    weight_at = weight_ptr + tl.minimum(column, outputs - 1).to(tl.int64)[None, :] * inner + k[:, None]
    total = tl.zeros([rows, columns], tl.int32)
    for start in range(0, inner, depth):
        left = k < inner - start
        q = tl.load(q_at + start, mask=left[None, :], other=0)
        weight = tl.load(weight_at + start, mask=left[:, None], other=0)
        total = tl.dot(q, weight, total, out_dtype=tl.int32)
    row_scale = tl.load(row_scale_ptr + row, mask=row < tokens, other=0.0)
    column_scale = tl.load(column_scale_ptr + column, mask=column < outputs, other=0.0)
    scaled = total.to(tl.float32) * row_scale[:, None] * column_scale[None, :]
    out_at = out_ptr + row.to(tl.int64)[:, None] * outputs + column[None, :]
    inside = (row < tokens)[:, None] & (column < outputs)[None, :]
    tl.store(out_at, scaled.to(out_ptr.dtype.element_ty), mask=inside)
