"""The five data-dependent token-shift interpolations of a time mix, in place.

Shapes: T packed tokens, D hidden size.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.bf16 import narrowed, widened
from rwkv_sweep.ops.numba.compiling import ONE, call, compiled

ZERO = np.float32(0)


def interpolate_token_shifts_(moved_5TD: Tensor, fixed_5D: Tensor, x_TD: Tensor, packed: Packed) -> Tensor:
    """x + (x of the token before - x) * (fixed + moved) for each of five, written over `moved`.

    Args:
        moved_5TD: fp32 or bf16.
        fixed_5D, x_TD: fp32.
        packed: the sentences.
    """
    call(interpolate_kernel, moved_5TD, fixed_5D, x_TD, packed.first_T)
    return moved_5TD


@compiled
def interpolate_kernel(moved_5TD: Any, fixed_5D: Any, x_TD: Any, first_T: Any) -> None:
    """moved_5TD = x_TD + (x_TD of the token before - x_TD) * (fixed_5D + moved_5TD), in place; moved_5TD
    fp32 or bf16, the others fp32.

    Before a token that first_T (int8) marks stand zeros. As the time mix of `models.rwkv6.blocks`.
    """
    tokens, width = x_TD.shape
    for t in numba.prange(tokens):
        kept = ZERO if first_T[t] == 1 else ONE
        before = max(t - 1, 0)
        for m in range(5):
            for d in range(width):
                delta = kept * x_TD[before, d] - x_TD[t, d]
                share = fixed_5D[m, d] + widened(moved_5TD[m, t, d])  # type: ignore[call-arg]
                moved_5TD[m, t, d] = narrowed(x_TD[t, d] + delta * share, moved_5TD)
