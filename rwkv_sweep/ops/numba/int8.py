"""What is around an int8 matmul on a CPU: rows to int8 before it, 32-bit integers to fp32 behind it.

Shapes: T tokens, N outputs, K inputs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from torch import Tensor

from rwkv_sweep.ops.numba.compiling import ONE, as_float, call, exactly, inlined

LARGEST = np.float32(127)
INFINITY = np.int32(0x7F800000)
"""Its bits; those of NaN are above, those of anything finite below."""
NO_THRESHOLD = float("nan")
"""Above every number in the order of `_size_bits`."""
ZERO, HALF = np.float32(0), np.float32(0.5)
SMALLEST_NORMAL_HALF, LARGEST_HALF = np.int32(0x38800000), np.int32(0x477FE000)
"""fp32's bits of 2^-14, below which fp16 numbers are 2^-24 apart as fp32's below 1 are above 0.5; and of 65504."""
BOUND_BY_MEMORY = 0.1
"""One thread alone keeps the memory busy."""


def quantize_int8(x_TK: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [T, K] in fp32 to int8 and one fp32 scale each, [T]; as `ops.rowwise.quantize_rows_reference` gives them."""
    q_TK, amax_T, _ = _quantized(x_TK, NO_THRESHOLD, False)
    return q_TK, amax_T / float(LARGEST)


def quantize_llm_int8(x_TK: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [T, K] in fp32, rounded to fp16, to int8 as LLM.int8 has them (arXiv 2208.07339, section 3.2).

    Returns:
        int8 rows [T, K], zero where an entry is an outlier (its size at least `threshold`); the largest of the other
        sizes in each row, [T], fp32 (NaN where there is one); and the columns with outliers, of which every entry is
        to be left out of the matmul.
    """
    q_TK, amax_T, outlier_K = _quantized(x_TK, threshold, True)
    return q_TK, amax_T, outlier_K.nonzero().flatten()


def dequantized(accumulated_TN: Tensor, scale_T: Tensor, scale_N: Tensor, factor: float = 1.0) -> Tensor:
    """accumulated * (scale_T * scale_N) * factor: 32-bit integers [T, N] to fp32."""
    out_TN = torch.empty(accumulated_TN.shape)
    call(_dequantize, accumulated_TN, scale_T, scale_N, factor, out_TN)
    return out_TN


def _quantized(x_TK: Tensor, threshold: float, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    x_TK = x_TK.contiguous()
    q_TK, amax_T = torch.empty(x_TK.shape, dtype=torch.int8), torch.empty(len(x_TK))
    outlier_K = torch.zeros(x_TK.shape[1], dtype=torch.uint8)
    call(_quantize, x_TK, threshold, half, q_TK, amax_T, outlier_K)
    return q_TK, amax_T, outlier_K


@intrinsic
def _size_bits(context: Any, x: Any) -> Any:
    """The bits of |x|, fp32: integers in the order of the sizes, and NaN above them all."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        return builder.and_(bits, ir.Constant(ir.IntType(32), 0x7FFFFFFF))

    return types.int32(types.float32), generate


def _through_half(x: Any) -> Any:
    """The fp16 number nearest to x, as fp32; only in compiled code."""
    raise NotImplementedError


@overload(_through_half)
def _compiled_through_half(x: Any) -> Any:
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    converts = not triple.startswith(("x86_64", "i686")) or "+f16c" in features.split(",")

    def by_instruction(x: Any) -> Any:
        return _converted_to_half(x)  # type: ignore[call-arg]

    def by_rounding(x: Any) -> Any:
        return _rounded_to_half(x)

    return by_instruction if converts else by_rounding


@intrinsic
def _converted_to_half(context: Any, x: Any) -> Any:
    """As the processor's own instructions do it."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.fptrunc(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.float32), generate


# Numba would take the fastmath of the caller: adding and taking away HALF would then be left out.
@numba.njit(error_model="numpy", fastmath=False)
def _rounded_to_half(x: Any) -> Any:
    """The fp16 number nearest to x, as fp32, by integer operations on its bits; = `torch.Tensor.half` in every value.

    For processors without such instructions (x86 before F16C, many virtual ones): LLVM would call a function that is
    nowhere to be found, which ends the process.
    """
    size: Any = _size_bits(x)  # type: ignore[call-arg]
    if size >= INFINITY:
        return x
    if size < SMALLEST_NORMAL_HALF:
        rounded = (as_float(size) + HALF) - HALF
    else:
        # To ten bits of the fraction, ties to even; a carry into the exponent is as it should be.
        size = (size + np.int32(0xFFF) + ((size >> np.int32(13)) & np.int32(1))) & np.int32(~0x1FFF)
        rounded = as_float(INFINITY if size > LARGEST_HALF else size)
    return -rounded if x < ZERO else rounded


@inlined
def _read(x_TK: Any, t: Any, k: Any, half: Any) -> Any:
    """x_TK[t, k], fp32; rounded to fp16 where `half`."""
    return _through_half(x_TK[t, k]) if half else x_TK[t, k]


@inlined
def _size(x_TK: Any, t: Any, k: Any, half: Any) -> Any:
    """The bits of |x_TK[t, k]| as `_size_bits` gives them, int32."""
    return _size_bits(_read(x_TK, t, k, half))  # type: ignore[call-arg]


@exactly(cost=BOUND_BY_MEMORY)
def _quantize(x_TK: Any, threshold: Any, half: Any, q_TK: Any, amax_T: Any, outlier_K: Any) -> None:
    """q_TK * amax_T / 127 = x_TK, as `ops.rowwise.quantize_rows_reference` and as LLM.int8 (arXiv 2208.07339) have it.

    Reads x_TK, fp32, rounded to fp16 where `half`. Writes q_TK (int8), 0 where the size of an entry reaches
    `threshold`; amax_T (fp32), the largest of the other sizes, NaN where there is one; and 1 into outlier_K (uint8,
    zeros before) for each column with such an entry.
    """
    tokens, width = x_TK.shape
    bound: Any = _size_bits(np.float32(threshold))  # type: ignore[call-arg]
    for t in numba.prange(tokens):
        largest = np.int32(0)
        for k in range(width):
            largest = max(largest, _size(x_TK, t, k, half))
        outliers = largest >= bound
        if outliers:
            largest = np.int32(0)
            for k in range(width):
                size = _size(x_TK, t, k, half)
                if bound <= size <= INFINITY:
                    outlier_K[k] = 1
                else:
                    largest = max(largest, size)
        amax = as_float(largest)
        amax_T[t] = amax
        # Each as its reference divides: LLM.int8's multiplies with the inverse, which rounds once more.
        factor = (ONE / amax) * LARGEST if half else LARGEST / amax
        factor = ZERO if largest == 0 else factor
        for k in range(width):
            x = _read(x_TK, t, k, half)
            q_TK[t, k] = np.int8(np.int32(np.rint(x * factor)))
        if outliers:
            for k in range(width):
                if bound <= _size(x_TK, t, k, half) <= INFINITY:
                    q_TK[t, k] = 0


@exactly(cost=BOUND_BY_MEMORY)
def _dequantize(accumulated_TN: Any, scale_T: Any, scale_N: Any, factor: Any, out_TN: Any) -> None:
    """out_TN = accumulated_TN * (scale_T * scale_N) * factor; accumulated_TN is int32, all others fp32."""
    tokens, width = out_TN.shape
    for t in numba.prange(tokens):
        row = scale_T[t] * np.float32(factor)
        for n in range(width):
            out_TN[t, n] = np.float32(accumulated_TN[t, n]) * (row * scale_N[n])
