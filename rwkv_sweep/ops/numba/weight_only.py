"""Weights in few bits to bf16 on a CPU, in one pass over memory; as `ops.common.groupwise` gives them, rounded to bf16.

Shapes: N outputs, K inputs of a linear layer, G groups, B bytes of a row of codes for W weights, as
in `ops.common.groupwise`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from rwkv_sweep.ops.common.groupwise import GROUP
from rwkv_sweep.ops.numba.compiling import call, exactly, inlined

BELOW_HALF = np.int32(0x7FFF)
"""With the lowest bit that bf16 keeps, what rounds fp32's bits to the nearest bf16 number, ties to even."""
SIXTEEN, BIT, NIBBLE, FOUR = np.int32(16), np.int32(1), np.uint8(15), np.uint8(4)
HALF_GROUP = GROUP // 2
SIMPLE = 0.5
"""Vector instructions alone."""


def int4_to_bf16(q_NB: Tensor, scale_NG: Tensor, zero_NG: Tensor, width: int) -> Tensor:
    """Packed codes to weights [N, width]."""
    weight_NW = torch.empty(len(q_NB), 2 * q_NB.shape[1], dtype=torch.int16)
    call(_int4, q_NB, scale_NG.float(), zero_NG.float(), weight_NW)
    return weight_NW.view(torch.bfloat16)[:, :width]


def int8_to_bf16(q_NK: Tensor, scale_N: Tensor) -> Tensor:
    """int8 rows to weights [N, K]."""
    weight_NK = torch.empty(q_NK.shape, dtype=torch.int16)
    call(_int8, q_NK, scale_N.float(), weight_NK)
    return weight_NK.view(torch.bfloat16)


@intrinsic
def _bits(context: Any, x: Any) -> Any:
    """The 32 bits of an fp32 number."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@inlined
def _bf16(x: Any) -> Any:
    """The 16 bits, int16, of bf16(x) for a finite fp32 x, ties to even."""
    bits: Any = _bits(x)  # type: ignore[call-arg]
    return np.int16((bits + BELOW_HALF + ((bits >> SIXTEEN) & BIT)) >> SIXTEEN)


@exactly(cost=SIMPLE)
def _int4(q_NB: Any, scale_NG: Any, zero_NG: Any, weight_NW: Any) -> None:
    """weight_NW (bf16's bits, int16) = (code - zero_NG) * scale_NG; q_NB holds two codes a byte, both others fp32."""
    rows, groups = scale_NG.shape
    for n in numba.prange(rows):
        for g in range(groups):
            scale, zero = scale_NG[n, g], zero_NG[n, g]
            for b in range(g * HALF_GROUP, (g + 1) * HALF_GROUP):
                pair = q_NB[n, b]
                weight_NW[n, 2 * b] = _bf16((np.float32(pair & NIBBLE) - zero) * scale)
                weight_NW[n, 2 * b + 1] = _bf16((np.float32(pair >> FOUR) - zero) * scale)


@exactly(cost=SIMPLE)
def _int8(q_NK: Any, scale_N: Any, weight_NK: Any) -> None:
    """weight_NK (bf16's bits, int16) = q_NK * scale_N, fp32."""
    rows, width = q_NK.shape
    for n in numba.prange(rows):
        scale = scale_N[n]
        for k in range(width):
            weight_NK[n, k] = _bf16(np.float32(q_NK[n, k]) * scale)
