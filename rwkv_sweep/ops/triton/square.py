"""The squared ReLU between the two wide GEMMs of a channel mix.

Shapes: T packed tokens, F inner size of the channel mix.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkv_sweep.ops.triton.common.launching import on_device_of_input

BLOCK = 4096


@on_device_of_input
def relu_square(k_TF: Tensor, dtype: torch.dtype, scale: float) -> Tensor:
    """(relu(k) / scale) ** 2 in `dtype`, from any dtype."""
    out_TF = torch.empty(k_TF.shape, dtype=dtype, device=k_TF.device)
    if out_TF.numel():
        grid = (triton.cdiv(out_TF.numel(), BLOCK),)
        square_kernel[grid](k_TF, out_TF, out_TF.numel(), 1.0 / scale, block=BLOCK, num_warps=8)
    return out_TF


@triton.jit
def square_kernel(k_ptr, out_ptr, count, factor, block: tl.constexpr):
    """out = (relu(k) * factor) ** 2 over the numbers of k [T, F], from any float dtype to that of out [T, F]."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    k = tl.load(k_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    k = tl.maximum(k, 0.0) * factor
    tl.store(out_ptr + at, (k * k).to(out_ptr.dtype.element_ty), mask=at < count)
