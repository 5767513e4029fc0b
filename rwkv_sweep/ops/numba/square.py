"""The squared ReLU of a channel mix, in place, fp32 or bf16.

Shapes: T packed tokens, F inner size of the channel mix, N numbers of any array.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from rwkv_sweep.ops.numba.bf16 import narrowed, widened
from rwkv_sweep.ops.numba.compiling import call, compiled

ZERO = np.float32(0)
PIECE = 16_384
"""Numbers of one piece of work."""


def relu_square_(k_TF: Tensor) -> Tensor:
    """max(k, 0) squared, fp32 or bf16, written over `k`, which has no gaps."""
    call(relu_square_kernel, k_TF.flatten())
    return k_TF


@compiled
def relu_square_kernel(k_N: Any) -> None:
    """k_N = max(k_N, 0) ** 2, fp32 or bf16, in place."""
    for piece in numba.prange((len(k_N) + PIECE - 1) // PIECE):
        # Cut out, since Numba allows indices from the end and cannot see that none of these is one.
        part_N = k_N[piece * PIECE : piece * PIECE + PIECE]
        for i in range(len(part_N)):
            k: Any = widened(part_N[i])  # type: ignore[call-arg]
            k = ZERO if k < ZERO else k
            part_N[i] = narrowed(k * k, part_N)
