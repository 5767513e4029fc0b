"""Matmuls (GEMM) of a CPU in fp32, by the faster of PyTorch's two libraries. MKL, which PyTorch itself takes for them,
keeps AVX-512 for Intel's processors and is 10 to 20 % faster there; on AMD's it is down to half as fast as oneDNN
(docs/benchmarks.md). PyTorch's compiler calls the operator of oneDNN that is used here.

The vendor decides, not a measurement at start: what a run computes to the last bit must not depend on how busy a
machine was.

Shapes: N outputs, K inputs.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger(__name__)

# oneDNN compiles a GEMM for each number of tokens that it meets, PyTorch's layer over it once more, and both keep a
# thousand: half a gigabyte, for numbers that hardly ever come again. One forward needs eight; both ask the environment
# when they first multiply.
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "16")

VENDORS = ("AuthenticAMD", "GenuineIntel")

PAGE_BYTES = 4096
"""Rows a multiple of this apart fall on the same few lines of the first cache."""


def matmul_fp32(x: Tensor, weight_NK: Tensor) -> Tensor:
    """x [..., K] times weight [N, K] transposed, [..., N], all fp32 on a CPU; no gradients."""
    if not uses_onednn():
        return F.linear(x, weight_NK)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_NK, None, "none", [], "")
    return y


def laid_out(weight_NK: Tensor) -> Tensor:
    """The same weight [N, K], stored in memory as oneDNN reads it: column by column, where that causes no conflicts.

    A GEMM of few tokens takes a third less time then. 16-bit weights are laid out for the fp32 numbers they become.
    """
    if not uses_onednn() or weight_NK.shape[0] * torch.float32.itemsize % PAGE_BYTES == 0:
        return weight_NK
    return weight_NK.t().contiguous().t()


@functools.cache
def uses_onednn() -> bool:
    """Whether fp32 products take oneDNN: where it is there, but not where MKL is too and the processor is Intel's."""
    return available() and not (torch.backends.mkl.is_available() and vendor() == "GenuineIntel")


def library() -> str:
    """What multiplies in fp32: `oneDNN`, `MKL`, or nothing that is known by name."""
    return "oneDNN" if uses_onednn() else "MKL" if torch.backends.mkl.is_available() else ""


@functools.cache
def vendor() -> str:
    """Who made this processor, as it names itself (`AuthenticAMD`, `GenuineIntel`); empty where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return next((name for name in VENDORS if name in platform.processor()), "")
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


@functools.cache
def available() -> bool:
    """Whether this PyTorch has oneDNN and the operator; logged once where not."""
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return True
    log.warning("this PyTorch has no oneDNN GEMM: fp32 and fp16 on the CPU take its other library")
    return False
