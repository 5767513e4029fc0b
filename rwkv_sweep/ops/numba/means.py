"""The mean over the tokens of each sentence, in one pass over them.

Shapes: T packed tokens, B sentences, D hidden size.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.ops.numba.compiling import call, compiled


def segment_mean(h_TD: Tensor, cu_seqlens_B1: Tensor) -> Tensor:
    """[T, D] to [B, D], fp32; sentence b has the rows cu_seqlens[b] to cu_seqlens[b + 1], at least one."""
    mean_BD = torch.empty(len(cu_seqlens_B1) - 1, h_TD.shape[1])
    call(_segment_mean, h_TD, cu_seqlens_B1, mean_BD)
    return mean_BD


@compiled
def _segment_mean(h_TD: Any, cu_seqlens_B1: Any, mean_BD: Any) -> None:
    """mean_BD[b] = mean of h_TD[cu_seqlens_B1[b] : cu_seqlens_B1[b + 1]]; fp32, cu_seqlens_B1 int64."""
    sentences, width = mean_BD.shape
    for b in numba.prange(sentences):
        start, end = cu_seqlens_B1[b], cu_seqlens_B1[b + 1]
        total_D = np.zeros(width, np.float32)
        for t in range(start, end):
            for d in range(width):
                total_D[d] += h_TD[t, d]
        tokens = np.float32(end - start)
        for d in range(width):
            mean_BD[b, d] = total_D[d] / tokens
