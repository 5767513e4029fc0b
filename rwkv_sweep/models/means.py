"""The mean over the tokens of each sentence."""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.models.paths import has_triton


def sentence_means(h_TD: Tensor, offsets_B1: Tensor) -> Tensor:
    """[T, D] to [B, D]; sentence b has the rows offsets[b] to offsets[b + 1]."""
    plain = h_TD.dtype == torch.float32 and h_TD.is_contiguous() and not h_TD.requires_grad
    if plain and h_TD.device.type == "cpu":
        from rwkv_sweep.models.loops import means  # imports Numba, which training and GPUs do without

        return means.segment_mean(h_TD, offsets_B1)
    if plain and h_TD.is_cuda and has_triton():
        from rwkv_sweep.models.kernels.segment_mean import segment_mean

        return segment_mean(h_TD, offsets_B1)
    return torch.segment_reduce(h_TD, "mean", offsets=offsets_B1, axis=0, unsafe=True)
