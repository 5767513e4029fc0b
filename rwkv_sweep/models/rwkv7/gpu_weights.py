"""What the kernels of a GPU read of an RWKV-7 beside its parameters.

Shapes: D hidden size, E outputs of a projection (E = D).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.low_rank import LowRankFactors


@dataclass(frozen=True)
class GpuWeights:
    """Of one time mix.

    Attributes:
        mixes: vectors [D] of receptance, key and value, and zeros, which leave the norm as it is.
        factors: of decay, learning rate, gate and (from block 1 on) value residual.
        vectors_6D: see `ops.triton.rwkv7.time_mix7`.
        stack_3ED: weights of receptance, key and value in one piece, where all are plain linear layers; else None.
        stack_int8: the same of LLM.int8's weights, with the maxima of their rows; else None.
    """

    mixes: Sequence[Tensor]
    factors: LowRankFactors
    vectors_6D: Tensor
    stack_3ED: Tensor | None = None
    stack_int8: tuple[Tensor, Tensor] | None = None
