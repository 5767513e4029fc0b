"""Linear layers in 8 bits by PyTorch's own kernels and ours: int8 and fp8, both factors scaled row by row.

Weights have one scale per output channel, inputs one per token; both are symmetric. Inputs are quantized in one pass
(`quantize`) and multiplied in another (`matmul`), so that whoever makes the inputs may hand them in quantized.

Shapes: T tokens, N outputs, K inputs of a linear layer.
"""

from __future__ import annotations

import functools
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rwkv_sweep.ops.common.availability import triton_missing
from rwkv_sweep.ops.common.number_formats import FP8
from rwkv_sweep.ops.rowwise import quantize_rows, quantize_rows_reference

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.quantized.few_tokens import FewTokensWeight

log = logging.getLogger(__name__)

MULTIPLE = 16
"""Both sizes of a weight must be multiples of this for the 8-bit products of a GPU."""
ALIGNED = 16
"""Bytes that cuBLAS wants scales aligned to; those of a second or third mix within one tensor need not be."""
LEAST_ROWS = 32
"""PyTorch's int8 product on a GPU takes no fewer than 17 rows."""


class RowwiseLinear(nn.Module, ABC):
    """A linear layer with 8-bit rows and a scale for each: what `Int8Linear` and `Fp8Linear` share.

    Attributes:
        weight_NK: in 8 bits row by row, [out, in].
        scale_N: fp32; weight_NK * scale_N[:, None] are the weights.
        out_dtype: of outputs on a GPU.
    """

    row_dtype: torch.dtype
    weight_NK: Tensor
    scale_N: Tensor
    out_dtype: torch.dtype

    def __init__(self, linear: nn.Linear, base: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features, self.base = linear.in_features, linear.out_features, base
        self.out_dtype = base
        self._few: FewTokensWeight | None = None
        rows_NK, scale_N = quantize_rows_reference(linear.weight.data.to(device, torch.float32), self.row_dtype)
        self.register_buffer("weight_NK", rows_NK)
        self.register_buffer("scale_N", scale_N)

    def dequantized(self) -> Tensor:
        """The weights [out, in] that the rows stand for, fp32."""
        return self.weight_NK.float() * self.scale_N[:, None]

    def quantize(self, x_TK: Tensor, square: bool = False) -> tuple[Tensor, Tensor]:
        """Inputs [T, in] (squared ReLUs of them, where asked for) to 8-bit rows and their scales [T], fp32."""
        return quantize_rows(x_TK, self.row_dtype, square)

    def few_tokens(self, q_TK: Tensor, scale_T: Tensor) -> Tensor | None:
        """As `matmul`, by the kernel for a pair's few tokens; None where it cannot run, or they are too many for it."""
        if not q_TK.is_cuda or triton_missing() is not None:
            return None
        from rwkv_sweep.ops.triton.quantized.few_tokens import MOST_TOKENS, FewTokensWeight, few_tokens_matmul

        if len(q_TK) > MOST_TOKENS:
            return None
        if self._few is None or self._few.weight.data_ptr() != self.weight_NK.data_ptr():
            self._few = FewTokensWeight(self.weight_NK[None], self.scale_N[None])
        return few_tokens_matmul(q_TK[None], self._few, row_scale_GT=scale_T[None], dtype=self.out_dtype)[0]

    @abstractmethod
    def matmul(self, q_TK: Tensor, scale_T: Tensor) -> Tensor:
        """Quantized inputs to outputs [T, out]."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] of any float dtype to [..., out]."""
        out_TN = self.matmul(*self.quantize(input.reshape(-1, self.in_features)))
        return out_TN.view(*input.shape[:-1], self.out_features)


class Int8Linear(RowwiseLinear):
    """int8 inputs, weights and products. Outputs: fp32 on a CPU, the base dtype on a GPU."""

    row_dtype = torch.int8

    def matmul(self, q_TK: Tensor, scale_T: Tensor) -> Tensor:
        if (few_TN := self.few_tokens(q_TK, scale_T)) is not None:
            return few_TN
        if q_TK.is_cuda and triton_missing() is None:
            from rwkv_sweep.ops.triton.quantized.int8_matmul import int8_matmul

            return int8_matmul(q_TK, scale_T, self.weight_NK, self.scale_N, self.base)
        product_TN = int_product(q_TK, self.weight_NK)
        if not q_TK.is_cuda:
            from rwkv_sweep.ops.numba.int8 import dequantized  # imports Numba, which GPUs do without

            return dequantized(product_TN, scale_T, self.scale_N)
        return product_TN.float().mul_(scale_T[:, None]).mul_(self.scale_N).to(self.base)


class Fp8Linear(RowwiseLinear):
    """fp8 (e4m3) inputs and weights, on a GPU that multiplies them; outputs in bf16."""

    row_dtype = FP8

    def __init__(self, linear: nn.Linear, base: torch.dtype, device: torch.device) -> None:
        super().__init__(linear, base, device)
        self.out_dtype = torch.bfloat16

    def matmul(self, q_TK: Tensor, scale_T: Tensor) -> Tensor:
        if (few_TN := self.few_tokens(q_TK, scale_T)) is not None:
            return few_TN
        if scale_T.data_ptr() % ALIGNED:
            scale_T = scale_T.clone()
        return torch._scaled_mm(
            q_TK,
            self.weight_NK.t(),
            scale_a=scale_T[:, None],
            scale_b=self.scale_N[None, :],
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )


def int_product(q_TK: Tensor, weight_NK: Tensor) -> Tensor:
    """int8 [T, K] and int8 [N, K] to 32-bit integers [T, N], by PyTorch's own kernel where that is exact."""
    rows = len(q_TK)
    if q_TK.is_cuda and rows < LEAST_ROWS:
        padded = q_TK.new_zeros(LEAST_ROWS, q_TK.shape[1])
        padded[:rows] = q_TK
        return torch._int_mm(padded, weight_NK.t())[:rows]
    if q_TK.is_cuda or int_mm_is_exact():
        return torch._int_mm(q_TK, weight_NK.t())
    return (q_TK.double() @ weight_NK.t().double()).int()


@functools.cache
def int_mm_is_exact() -> bool:
    """Whether PyTorch's int8 product on this CPU adds in 32 bits; said once in the log where not.

    Without VNNI instructions oneDNN adds two products in 16 bits, which is too few for the largest. PyTorch does not
    call it on processors without them, but does where a variable such as ONEDNN_MAX_CPU_ISA hides them from oneDNN.
    """
    largest = torch.full((LEAST_ROWS, LEAST_ROWS), 127, dtype=torch.int8)
    if bool((torch._int_mm(largest, largest.t()) == LEAST_ROWS * 127**2).all()):
        return True
    log.warning("torch._int_mm overflows on this CPU as it is set up (ONEDNN_MAX_CPU_ISA?): int8 multiplies in fp64")
    return False


def native_kernel(quantization: str, device: torch.device) -> str:
    """What multiplies, in words: exact enough to look it up."""
    if quantization == "fp8":
        by = "Triton" if triton_missing() is None else "PyTorch, as Triton is missing"
        few = "Triton GEMM up to 128 tokens, " if triton_missing() is None else ""
        return f"fp8 e4m3 rows, {few}torch._scaled_mm with fast accumulation, inputs by {by}"
    if device.type == "cuda" and triton_missing() is None:
        return "int8 rows, Triton GEMM with scaled epilogue, inputs by Triton"
    if device.type == "cuda":
        return "int8 rows, torch._int_mm, inputs by PyTorch"
    by = f"torch._int_mm ({torch.backends.cpu.get_cpu_capability()})" if int_mm_is_exact() else "products in fp64"
    return f"int8 rows, {by}, inputs by Numba"


def unfit_shape(linear: nn.Linear, device: torch.device) -> str | None:
    """Why a layer of this shape cannot be multiplied in 8 bits on this device; None where it can."""
    sizes = (linear.in_features, linear.out_features)
    if device.type == "cuda" and any(size % MULTIPLE for size in sizes):
        return f"sizes {sizes[0]} and {sizes[1]} are not both multiples of {MULTIPLE}"
    return None
