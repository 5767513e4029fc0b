"""Tokens to one vector per sentence, over packed batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rwkv_sweep.models.packed import Packed

Pool = Callable[[Tensor, Packed], Tensor]
"""[T, D] of packed tokens to [B, D], one vector per sentence."""


def mean(h_TD: Tensor, packed: Packed) -> Tensor:
    """Mean over the tokens of each sentence."""
    return torch.segment_reduce(h_TD, "mean", offsets=packed.offsets_B1, axis=0)


def last(h_TD: Tensor, packed: Packed) -> Tensor:
    """The last token, the only one that has read the whole sentence."""
    return h_TD.index_select(0, packed.last_B)


def maximum(h_TD: Tensor, packed: Packed) -> Tensor:
    """Largest value of each channel over the tokens of a sentence."""
    return torch.segment_reduce(h_TD, "max", offsets=packed.offsets_B1, axis=0)


POOLS: dict[str, Pool] = {"mean": mean, "last": last, "max": maximum}
