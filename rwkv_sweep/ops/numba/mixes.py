"""The five data-dependent mixes of the time mix, and the squared ReLU of the channel mix, both in place.

Shapes: T packed tokens, D hidden size, F inner size of the channel mix, N numbers of any array.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.compiling import ONE, call, compiled

ZERO = np.float32(0)
PIECE = 16_384
"""Numbers of one piece of work."""


def five_mixes_(moved_5TD: Tensor, fixed_5D: Tensor, x_TD: Tensor, packed: Packed) -> Tensor:
    """x + (x of the token before - x) * (fixed + moved) for each of five, fp32, written over `moved`."""
    call(_five_mixes, moved_5TD, fixed_5D, x_TD, packed.first_T)
    return moved_5TD


def relu_square_(k_TF: Tensor) -> Tensor:
    """max(k, 0) squared, fp32, written over `k`."""
    call(_relu_square, k_TF.flatten())
    return k_TF


@compiled
def _five_mixes(moved_5TD: Any, fixed_5D: Any, x_TD: Any, first_T: Any) -> None:
    """moved_5TD = x_TD + (x_TD of the token before - x_TD) * (fixed_5D + moved_5TD), fp32, in place.

    Before a token that first_T (int8) marks stand zeros. As the time mix of `models.rwkv6.blocks`.
    """
    tokens, width = x_TD.shape
    for t in numba.prange(tokens):
        kept = ZERO if first_T[t] == 1 else ONE
        before = max(t - 1, 0)
        for m in range(5):
            for d in range(width):
                delta = kept * x_TD[before, d] - x_TD[t, d]
                moved_5TD[m, t, d] = x_TD[t, d] + delta * (fixed_5D[m, d] + moved_5TD[m, t, d])


@compiled
def _relu_square(k_N: Any) -> None:
    """k_N = max(k_N, 0) ** 2, fp32, in place."""
    for piece in numba.prange((len(k_N) + PIECE - 1) // PIECE):
        # Cut out, since Numba allows indices from the end and cannot see that none of these is one.
        part_N = k_N[piece * PIECE : piece * PIECE + PIECE]
        for i in range(len(part_N)):
            k = ZERO if part_N[i] < ZERO else part_N[i]
            part_N[i] = k * k
