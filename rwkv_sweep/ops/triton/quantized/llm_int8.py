"""LLM.int8 (arXiv 2208.07339) on a GPU without a look at the device from the host, so that a CUDA graph can hold it.

    out = (q @ weight.T) * amax / 127 * amax_N / 127 + (x - q * amax / 127)[:, O] @ (weight * amax_N / 127)[:, O].T

q are the inputs as int8 rows, with amax of each row over its entries below the threshold; O are the columns where any
entry reaches it. bitsandbytes leaves those columns out of the first GEMM and takes x in the second; here they stay
in the first, and the second takes what is left of x, which is the same sum. How many columns O has is known on the
device alone: the second GEMM's loop reads its length from there.

Few rows (a pair) are bound by reading weights, so there the inputs become what both GEMMs multiply, x in the columns O
and q * amax / 127 elsewhere, in fp16, for one GEMM with int8 weights.

Shapes: G groups of T rows of K inputs, N outputs each, C places for outlier columns, T the same in every group; a layer
alone is G = 1.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from rwkv_sweep.ops.triton.common.dependent_launch import can_depend
from rwkv_sweep.ops.triton.common.launching import on_device_of_input
from rwkv_sweep.ops.triton.quantized.few_bits import SLAB
from rwkv_sweep.ops.triton.quantized.few_tokens import MOST_TOKENS, FewTokensWeight, counters, few_tokens_matmul
from rwkv_sweep.ops.triton.quantized.llm_int8_kernels import (
    amax_kernel,
    as_multiplied_kernel,
    many_rows_kernel,
    rows_kernel,
)
from rwkv_sweep.ops.triton.quantized.outlier_kernels import gather_kernel, index_kernel

FEW = MOST_TOKENS
"""Up to so many rows the matmul is bound by reading weights, and runs in fp16 with int8 weights."""
PART = 32
"""Columns of few rows that one program prepares."""
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
    square = {"factor": 1.0 if square_factor is None else square_factor, "square": square_factor is not None}
    if tokens <= FEW and inner % SLAB.value == 0:
        return _few_rows(x_GTK, weight_GNK, amax_GN, square).to(dtype)
    q_GTK = torch.empty(x_GTK.shape, dtype=torch.int8, device=device)
    amax_GT = torch.empty(groups, tokens, device=device)
    flags_GK = torch.zeros(groups, inner, dtype=torch.int32, device=device)
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
        num_warps=min(16, max(1, block // 512)),
    )
    _many_rows((x_GTK, q_GTK, amax_GT, weight_GNK, amax_GN, out_GTN), flags_GK, square)
    return out_GTN


def _few_rows(x_GTK: Tensor, weight_GNK: Tensor, amax_GN: Tensor, square: dict[str, float | bool]) -> Tensor:
    """Inputs as they are multiplied, then a matmul with int8 weights: [G, T, N] in fp16."""
    groups, tokens, inner = x_GTK.shape
    device, depends = x_GTK.device, can_depend(x_GTK.device)
    amax_GT = torch.empty(groups, tokens, device=device)
    count = torch.empty(counters(weight_GNK), dtype=torch.int32, device=device)
    block = triton.next_power_of_2(inner)
    amax_kernel[(groups * tokens,)](
        x_GTK,
        amax_GT,
        count,
        **square,
        width=inner,
        block=block,
        counters=len(count),
        counters_block=triton.next_power_of_2(len(count)),
        dependent=depends,
        num_warps=min(16, max(1, block // 512)),
        launch_pdl=depends,
    )
    multiplied_GTK = torch.empty(x_GTK.shape, dtype=torch.float16, device=device)
    as_multiplied_kernel[(inner // PART, groups)](
        x_GTK,
        amax_GT,
        multiplied_GTK,
        tokens,
        **square,
        inner=inner,
        rows=max(16, triton.next_power_of_2(tokens)),
        slab=SLAB.value,
        part=PART,
        dependent=depends,
        num_warps=4,
        launch_pdl=depends,
    )
    weight = FewTokensWeight(weight_GNK.view(torch.int16), amax_GN, count=count, scale_factor=1 / 127)
    return few_tokens_matmul(multiplied_GTK, weight)


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
