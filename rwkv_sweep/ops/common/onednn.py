"""Matmuls (GEMM) of a CPU in fp32 by oneDNN. The library that PyTorch itself takes for them, MKL, keeps AVX-512 for
Intel's
processors: on AMD's it is down to half as fast (docs/benchmarks.md). PyTorch's compiler calls the operator used here.

Shapes: N outputs, K inputs.
"""

from __future__ import annotations

import functools
import logging
import os

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger(__name__)

# oneDNN compiles a GEMM for each number of tokens that it meets, PyTorch's layer over it once more, and both keep a
# thousand: half a gigabyte, for numbers that hardly ever come again. One forward needs eight; both ask the environment
# when they first multiply.
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "16")

PAGE_BYTES = 4096
"""Rows a multiple of this apart fall on the same few lines of the first cache."""


def matmul_fp32(x: Tensor, weight_NK: Tensor) -> Tensor:
    """x [..., K] times weight [N, K] transposed, [..., N], all fp32 on a CPU; no gradients."""
    if not available():
        return F.linear(x, weight_NK)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_NK, None, "none", [], "")
    return y


def laid_out(weight_NK: Tensor) -> Tensor:
    """The same weight [N, K], stored in memory as oneDNN reads it: column by column, where that causes no conflicts.

    A GEMM of few tokens takes a third less time then. 16-bit weights are laid out for the fp32 numbers they become.
    """
    if not available() or weight_NK.shape[0] * torch.float32.itemsize % PAGE_BYTES == 0:
        return weight_NK
    return weight_NK.t().contiguous().t()


@functools.cache
def available() -> bool:
    """Whether this PyTorch has oneDNN and the operator; logged once where not."""
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return True
    log.warning("this PyTorch has no oneDNN GEMM: fp32 and fp16 on the CPU take its other library")
    return False
