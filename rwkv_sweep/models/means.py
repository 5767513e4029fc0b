"""The mean over the tokens of each sentence, and how a layer is handed to those that asked for it."""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.models.blocks import OnLayer, OnMean
from rwkv_sweep.models.packed import Packed
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


def hand_over(index: int, h_TD: Tensor, packed: Packed, on_layer: OnLayer, on_mean: OnMean | None) -> None:
    """Give layer `index`, [T, D], to its receivers: its means first, where they are wanted."""
    if on_mean is not None:
        on_mean(index, sentence_means(h_TD, packed.offsets_B1))
    on_layer(index, h_TD)
