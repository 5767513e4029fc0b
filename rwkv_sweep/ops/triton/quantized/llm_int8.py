"""LLM.int8 (arXiv 2208.07339) on a GPU without a look at the device from the host, so that a CUDA graph can hold it.

    out = (q @ weight.T) * amax / 127 * amax_N / 127 + (x - q * amax / 127)[:, O] @ (weight * amax_N / 127)[:, O].T

q are the inputs as int8 rows, with amax of each row over its entries below the threshold; O are the columns where any
entry reaches it. bitsandbytes leaves those columns out of the first GEMM and takes x in the second; here they stay
in the first, and the second takes what is left of x, which is the same sum. How many columns O has is known on the
device alone: the second GEMM's loop reads its length from there.

Shapes: G groups of T rows of K inputs, N outputs each, C places for outlier columns, T the same in every group; a layer
alone is G = 1.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from rwkv_sweep.ops.triton.common.launching import on_device_of_input
from rwkv_sweep.ops.triton.quantized.llm_int8_kernels import (
    few_rows_kernel,
    gather_kernel,
    index_kernel,
    many_rows_kernel,
    rows_kernel,
)

FEW = 128
"""Up to so many rows one program sees all of them, and finds the columns by itself."""
FEW_DEPTH = 256
"""Slice of the inner dimension where there are few rows; which slices have outliers is one bit each of a number."""
MOST_SLICES = 62
STEP = 64
"""Columns of O that the second GEMM takes at once."""
ROWS, COLUMNS, DEPTH, BAND = 128, 256, 128, 8
"""Tile of the result, slice of the inner dimension, and tiles of rows walked over before the next tile of columns."""


@on_device_of_input
def llm_int8_matmul(
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
    slices = triton.cdiv(inner, FEW_DEPTH)
    few = tokens <= FEW and slices <= MOST_SLICES
    if few:
        flags = torch.empty(groups, tokens, slices, dtype=torch.int8, device=device)
    else:
        flags = torch.zeros(groups, inner, dtype=torch.int32, device=device)
    square = {"factor": 1.0 if square_factor is None else square_factor, "square": square_factor is not None}
    block = triton.next_power_of_2(inner)
    rows_kernel[(groups * tokens,)](
        x_GTK,
        q_GTK,
        amax_GT,
        flags,
        tokens,
        **square,
        width=inner,
        block=max(block, FEW_DEPTH),
        depth=FEW_DEPTH,
        few=few,
        num_warps=min(16, max(1, block // 512)),
    )
    arguments = (x_GTK, q_GTK, amax_GT, weight_GNK, amax_GN, out_GTN)
    if few:
        columns = 32
        few_rows_kernel[(triton.cdiv(outputs, columns), groups)](
            *arguments,
            flags,
            tokens,
            **square,
            outputs=outputs,
            inner=inner,
            rows=max(16, triton.next_power_of_2(tokens)),
            columns=columns,
            depth=FEW_DEPTH,
            slices=slices,
            block=triton.next_power_of_2(slices),
            num_warps=4,
            num_stages=4,
        )
        return out_GTN
    _many_rows(arguments, flags, square)
    return out_GTN


def _many_rows(arguments: tuple[Tensor, ...], flags_GK: Tensor, square: dict[str, float | bool]) -> None:
    """Index the columns, gather what is left of them, and multiply."""
    (groups, tokens, inner), outputs, device = arguments[0].shape, arguments[3].shape[1], flags_GK.device
    index_GK = torch.empty(groups, inner, dtype=torch.int32, device=device)
    count_G = torch.empty(groups, dtype=torch.int32, device=device)
    index_kernel[(groups,)](flags_GK, index_GK, count_G, width=inner, block=triton.next_power_of_2(inner), num_warps=8)
    # Enough for the case that all columns are in O; a program beyond the number of columns returns at once.
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
