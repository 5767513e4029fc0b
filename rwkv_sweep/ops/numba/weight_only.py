"""Weights in few bits to bf16 on a CPU, in one pass over memory; as `ops.common.groupwise` gives them, rounded to bf16.

Shapes: N outputs, K inputs of a linear layer, G groups, B bytes of a row of codes for W weights, as
in `ops.common.groupwise`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.ops.common.groupwise import GROUP
from rwkv_sweep.ops.numba.bf16 import finite_bf16
from rwkv_sweep.ops.numba.compiling import call, exactly

NIBBLE, FOUR = np.uint8(15), np.uint8(4)
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


@exactly(cost=SIMPLE)
def _int4(q_NB: Any, scale_NG: Any, zero_NG: Any, weight_NW: Any) -> None:
    """weight_NW (bf16's bits, int16) = (code - zero_NG) * scale_NG; q_NB holds two codes a byte, both others fp32."""
    rows, groups = scale_NG.shape
    for n in numba.prange(rows):
        for g in range(groups):
            scale, zero = scale_NG[n, g], zero_NG[n, g]
            for b in range(g * HALF_GROUP, (g + 1) * HALF_GROUP):
                pair = q_NB[n, b]
                weight_NW[n, 2 * b] = finite_bf16((np.float32(pair & NIBBLE) - zero) * scale)
                weight_NW[n, 2 * b + 1] = finite_bf16((np.float32(pair >> FOUR) - zero) * scale)


@exactly(cost=SIMPLE)
def _int8(q_NK: Any, scale_N: Any, weight_NK: Any) -> None:
    """weight_NK (bf16's bits, int16) = q_NK * scale_N, fp32."""
    rows, width = q_NK.shape
    for n in numba.prange(rows):
        scale = scale_N[n]
        for k in range(width):
            weight_NK[n, k] = finite_bf16(np.float32(q_NK[n, k]) * scale)
