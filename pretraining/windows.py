"""Training windows: batches of equally long windows of the corpus, and their cheap form of a packed batch.

Why an own form: gathering and scattering rows by index costs atomic additions in the backward pass, and neither is
needed where all windows have one length, which is a multiple of the chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretraining.tokens import TokenSet
from rwkv_sweep.ops.common.packing import ChunkPlan, Packed


class EqualPlan(ChunkPlan):
    """The cut of equally long windows into full chunks, by views instead of indices."""

    def to_chunks(self, x_THK: Tensor) -> Tensor:
        chunks_BSCHK = x_THK.unflatten(0, (-1, len(self.steps), self.size))
        return chunks_BSCHK.transpose(0, 1).flatten(0, 1).transpose(1, 2)

    def from_chunks(self, y_NHCV: Tensor) -> Tensor:
        chunks_SBCHV = y_NHCV.transpose(1, 2).unflatten(0, (len(self.steps), -1))
        return chunks_SBCHV.transpose(0, 1).flatten(0, 2)


class EqualWindows(Packed):
    """A packed batch whose sentences all have one length."""

    plan: EqualPlan

    @classmethod
    def of_size(cls, count: int, length: int, chunk: int, device: torch.device) -> EqualWindows:
        """Lay out `count` windows of `length` tokens, to be cut into chunks of `chunk` tokens.

        Raises:
            ValueError: the chunk does not divide the length.
        """
        if length % chunk:
            raise ValueError(f"a window of {length} tokens is not a whole number of chunks of {chunk}")
        windows = cls.of([length] * count, device)
        plan = Packed.of([length] * count, device).chunk_plan(chunk)
        equal = EqualPlan(plan.size, plan.gather_NC, plan.scatter_T, plan.steps, plan.order_B)
        object.__setattr__(windows, "plan", equal)
        return windows

    def chunk_plan(self, size: int) -> ChunkPlan:
        return self.plan

    def shift(self, x_TD: Tensor) -> Tensor:
        x_BLD = x_TD.unflatten(0, (-1, self.plan.size * len(self.plan.steps)))
        return F.pad(x_BLD[:, :-1], (0, 0, 1, 0)).flatten(0, 1)


class WindowSampler:
    """Random windows of `context` + 1 tokens that begin at sentences; a new permutation of the starts each epoch."""

    def __init__(self, tokens: TokenSet, context: int, batch: int, seed: int, device: torch.device) -> None:
        self._ids = torch.from_numpy(tokens.ids.astype(np.int32)).to(device)
        starts = tokens.starts[tokens.starts < len(tokens.ids) - context - 1]
        self._starts = torch.from_numpy(starts).to(device)
        # As many windows an epoch as it takes to read each token once on average.
        self._per_epoch = len(tokens.ids) // context
        self._context, self._batch = context, batch
        self._random = torch.Generator(device).manual_seed(seed)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches [batch, context + 1] without end."""
        span = torch.arange(self._context + 1, device=self._ids.device)
        while True:
            order = torch.randperm(len(self._starts), generator=self._random, device=self._ids.device)
            order = order[: self._per_epoch]
            for first in range(0, len(order) - self._batch + 1, self._batch):
                starts = self._starts[order[first : first + self._batch]]
                yield self._ids[starts[:, None] + span].long()
