"""Rows of activations to 8 bits with one scale each, in one pass over memory; with or without a squared ReLU before.

Shapes: T rows of K numbers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkv_sweep.ops.triton.common.dependent_launch import can_depend, launch_dependents, wait_for_earlier
from rwkv_sweep.ops.triton.common.launching import on_device_of_input

FEW = 2048
"""Up to so many rows the launch is a large part of the time, and may begin before the kernel before has ended."""
ROUNDING = 12582912.0
"""1.5 * 2**23: added to an fp32 number below 2**22 and taken away again, leaves the nearest integer, ties to even."""


@on_device_of_input
def quantize_rows_triton(x_TK: Tensor, dtype: torch.dtype, largest: float, square: bool) -> tuple[Tensor, Tensor]:
    """As `ops.rowwise.quantize_rows_reference`, on a GPU, bit for bit for the same fp32 inputs."""
    tokens, width = x_TK.shape
    x_TK = x_TK.contiguous()
    q_TK = torch.empty(x_TK.shape, dtype=dtype, device=x_TK.device)
    scale_T = torch.empty(tokens, device=x_TK.device)
    if tokens:
        block = triton.next_power_of_2(width)
        dependent = tokens <= FEW and can_depend(x_TK.device)
        rows_kernel[(tokens,)](
            x_TK,
            q_TK,
            scale_T,
            width=width,
            block=block,
            largest=largest,
            integers=dtype == torch.int8,
            square=square,
            rounding=ROUNDING,
            dependent=dependent,
            launch_pdl=dependent,
            num_warps=min(16, max(1, block // 512)),
            # A product and a sum fused into one would round once where the reference rounds twice.
            enable_fp_fusion=False,
        )
    return q_TK, scale_T


@triton.jit
def rows_kernel(
    x_ptr,
    q_ptr,
    scale_ptr,
    width: tl.constexpr,
    block: tl.constexpr,
    largest: tl.constexpr,
    integers: tl.constexpr,
    square: tl.constexpr,
    rounding: tl.constexpr,
    dependent: tl.constexpr,
):
    """q * scale = x, or relu(x) ** 2 where `square`, bit for bit as `ops.rowwise.quantize_rows_reference`.

    x [T, K] of any float dtype, q [T, K] int8 or fp8, scale [T] fp32. One program a row.
    """
    if dependent:
        launch_dependents()
        wait_for_earlier()
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, block)
    mask = cols < width
    x = tl.load(x_ptr + row * width + cols, mask=mask, other=0.0).to(tl.float32)
    if square:
        x = tl.maximum(x, 0.0)
        x = x * x
    q, scale = quantized_row(x, largest, integers, rounding)
    tl.store(q_ptr + row * width + cols, q.to(q_ptr.dtype.element_ty), mask=mask)
    tl.store(scale_ptr + row, scale)


@triton.jit
def quantized_row(x, largest: tl.constexpr, integers: tl.constexpr, rounding: tl.constexpr):
    """A row [K] in registers, fp32, as numbers that fit the 8-bit dtype, and its scale: q = x * largest / amax rounded
    to integers or clamped, scale = amax / largest."""
    # NaN must not pass as a number, and max drops it. As integers, the bits of sizes are in the order of the sizes,
    # with infinity (0x7F800000) and NaN above all numbers.
    bits = tl.max(tl.abs(x).to(tl.int32, bitcast=True), 0)
    amax = tl.where(bits < 0x7F800000, bits.to(tl.float32, bitcast=True), float("nan"))
    q = x * tl.where(amax == 0.0, 0.0, tl.div_rn(largest, amax))
    if integers:
        q = (q + rounding) - rounding
    else:
        q = tl.minimum(tl.maximum(q, -largest), largest)
    return q, tl.div_rn(amax, largest)
