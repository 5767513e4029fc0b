"""The mean over the tokens of each sentence, and how a layer is handed to those that asked for it.

Shapes: T packed tokens, B sentences, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.ops.common.availability import triton_missing
from rwkv_sweep.ops.common.packing import Packed

OnLayer = Callable[[int, Tensor], None]
"""Receives a layer's index and its output [T, D] in fp32 as soon as it exists."""

OnMean = Callable[[int, Tensor], None]
"""Receives a layer's index and the mean of its output over the tokens of each sentence, [B, D] in fp32."""

OnState = Callable[[int, Tensor, Tensor], None]
"""Receives a block's index and what it would hand to a next token, in fp32: the WKV state after each sentence's last
token [B, H, K, V], and that token's outputs of ln1 and ln2, which the two token shifts would read [B, 2, D]."""


def sentence_means(h_TD: Tensor, cu_seqlens_B1: Tensor) -> Tensor:
    """[T, D] to [B, D]; sentence b has the rows cu_seqlens[b] to cu_seqlens[b + 1]."""
    plain = h_TD.dtype == torch.float32 and h_TD.is_contiguous() and not h_TD.requires_grad
    if plain and h_TD.device.type == "cpu":
        from rwkv_sweep.ops.numba import means  # imports Numba, which training and GPUs do without

        return means.segment_mean(h_TD, cu_seqlens_B1)
    if plain and h_TD.is_cuda and triton_missing() is None:
        from rwkv_sweep.ops.triton.segment_mean import segment_mean

        return segment_mean(h_TD, cu_seqlens_B1)
    return torch.segment_reduce(h_TD, "mean", offsets=cu_seqlens_B1, axis=0, unsafe=True)


def hand_over(index: int, h_TD: Tensor, packed: Packed, on_layer: OnLayer, on_mean: OnMean | None) -> None:
    """Give layer `index`, [T, D], to its receivers: its means first, where they are wanted."""
    if on_mean is not None:
        on_mean(index, sentence_means(h_TD, packed.cu_seqlens_B1))
    on_layer(index, h_TD)


def shift_states(block: Any, h_TD: Tensor, middle_TD: Tensor, packed: Packed) -> Tensor:
    """The two norms' outputs for each sentence's last token, [B, 2, D]."""
    pairs = ((block.ln1, h_TD), (block.ln2, middle_TD))
    return torch.stack([norm(stream_TD.index_select(0, packed.last_B)) for norm, stream_TD in pairs], 1)
