"""Row-wise 8 bits, one scale a row: the plain PyTorch form, and the choice of what runs.

q * scale stands for the row; the largest entry of a row becomes the largest number of the dtype, so both signs alike.

Shapes: T rows, K inputs, N outputs.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from rwkv_sweep.ops.common.availability import triton_missing
from rwkv_sweep.ops.common.number_formats import LARGEST

log = logging.getLogger(__name__)


def quantize_rows(x_TK: Tensor, dtype: torch.dtype, square: bool = False) -> tuple[Tensor, Tensor]:
    """Rows [T, K] of any float dtype to `dtype` (int8 or fp8 e4m3) and one fp32 scale each, [T].

    square: of relu(x) ** 2 in place of x, as between the two GEMMs of a channel mix. NaN or infinity in a row gives
    it a scale that is NaN or infinite.
    """
    if x_TK.is_cuda and triton_missing() is None:
        from rwkv_sweep.ops.triton.quantized.quantize_rows import quantize_rows_triton

        return quantize_rows_triton(x_TK, dtype, LARGEST[dtype], square)
    if x_TK.device.type == "cpu" and dtype == torch.int8 and not square:
        from rwkv_sweep.ops.numba.int8 import quantize_int8  # imports Numba, which GPUs do without

        return quantize_int8(x_TK.float())
    return quantize_rows_reference(x_TK, dtype, square)


def quantize_rows_reference(x_TK: Tensor, dtype: torch.dtype, square: bool = False) -> tuple[Tensor, Tensor]:
    """As `quantize_rows`, in plain PyTorch on any device."""
    largest = LARGEST[dtype]
    if square:
        x_TK = torch.relu(x_TK.float()) ** 2
    amax_T1 = x_TK.abs().amax(-1, keepdim=True).float()
    # Divided as tensors: by a plain number PyTorch multiplies with its inverse, which rounds once more.
    largest_T1 = torch.full_like(amax_T1, largest)
    factor_T1 = torch.where(amax_T1 == 0, 0.0, largest_T1 / amax_T1)
    scaled_TK = x_TK * factor_T1
    # fp8 has no infinity: what rounding put beyond its largest number must not become NaN.
    q_TK = scaled_TK.round_() if dtype == torch.int8 else scaled_TK.clamp_(-largest, largest)
    return q_TK.to(dtype), (amax_T1 / largest_T1).squeeze(-1)


def matmul_reference(q_TK: Tensor, scale_T: Tensor, weight_NK: Tensor, scale_N: Tensor) -> Tensor:
    """(q * scale) @ (weight * scale).T in fp32 [T, N], by dequantizing both: what fast GEMMs are tested against."""
    return (q_TK.float() * scale_T[:, None]) @ (weight_NK.float() * scale_N[:, None]).T
