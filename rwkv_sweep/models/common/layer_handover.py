"""The mean over the tokens of each sentence, and how a layer is handed to those that asked for it: its output, or what
lies inside of the block for `pooling.source`, the values of the time mix and what that adds to the stream.

Shapes: T packed tokens, B sentences, D hidden size, A width of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
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


VALUES, TIME_MIX = "values", "time_mix"

OnValues = Callable[[Tensor], None]
"""Receives the values [T, A] of one time mix, fp32."""


@dataclass(frozen=True)
class InnerReader:
    """Hands over one kind of inner vectors of some blocks.

    Attributes:
        source: `VALUES` or `TIME_MIX`.
        layers: the blocks.
        on_layer: receives a block's index and its vectors, [T, A] or [T, D], fp32.
    """

    source: str
    layers: Collection[int]
    on_layer: OnLayer

    def on_values(self, index: int) -> OnValues | None:
        """What receives the values of block `index`; None where they are not wanted."""
        return partial(self.on_layer, index) if self.source == VALUES and index in self.layers else None

    def time_mix(self, index: int, added_TD: Tensor) -> None:
        """Hand over what the time mix of block `index` adds to the stream, where that is wanted."""
        if self.source == TIME_MIX and index in self.layers:
            self.on_layer(index, added_TD)


RunInner = Callable[[Sequence[Any], Tensor, Packed, InnerReader], None]
"""(blocks, stream [T, D], packed, reader): run the blocks up to the time mix of the last."""

TimeMixStep = Callable[[Any, Tensor, Packed, Tensor | None, OnValues | None], tuple[Tensor, Tensor | None]]
"""(time mix, its input [T, D], packed, what the block before handed on, receiver of the values) to what it adds to the
stream [T, D], and what it hands on: block 0's value in RWKV-7, nothing in the others."""


def run_plain(
    blocks: Sequence[Any], h_TD: Tensor, packed: Packed, reader: InnerReader, *, time_mix: TimeMixStep
) -> None:
    """`RunInner` through plain blocks."""
    handed_on_TD: Tensor | None = None
    for index, block in enumerate(blocks):
        x_TD, receiver = block.ln1(h_TD), reader.on_values(index)
        added_TD, handed_on_TD = time_mix(block.attention, x_TD, packed, handed_on_TD, receiver)
        reader.time_mix(index, added_TD)
        if index + 1 < len(blocks):
            h_TD = h_TD + added_TD
            h_TD = h_TD + block.feed_forward(block.ln2(h_TD), packed)


def plain_step(
    mix: Any, x_TD: Tensor, packed: Packed, handed_on_TD: Tensor | None, on_values: OnValues | None
) -> tuple[Tensor, None]:
    """`TimeMixStep` of the generations that hand nothing on: RWKV-4, 5 and 6."""
    return mix(x_TD, packed, on_values=on_values), None
