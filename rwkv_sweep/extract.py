"""Sentences to pooled vectors per layer: tokenize, pack without padding, run, pool each layer as soon as it exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rwkv_sweep.errors import NonFiniteError, UserError
from rwkv_sweep.layers import layer_name
from rwkv_sweep.models.loading import LoadedModel
from rwkv_sweep.models.packed import Packed
from rwkv_sweep.pooling import Pool

Progress = Callable[[int], None]
"""Told the number of sentences just finished."""


class Encoder(Protocol):
    """Anything that turns sentences into vectors per layer."""

    def encode(self, sentences: Sequence[str], layers: Sequence[int]) -> Tensor:
        """[layers, sentences, hidden], fp32, on the CPU."""
        ...


@dataclass(frozen=True)
class Tokenized:
    """Token ids of sentences. truncated: how many were cut to the longest length allowed."""

    ids: list[list[int]]
    truncated: int

    @property
    def tokens(self) -> int:
        return sum(len(ids) for ids in self.ids)


@dataclass(frozen=True)
class RwkvEncoder:
    """An RWKV and how it is used.

    Attributes:
        loaded: model and tokenizer.
        pool: tokens to one vector per layer.
        device: where the model lies.
        max_tokens: longer sentences are truncated.
        batch_tokens: tokens per packed batch; a single longer sentence makes a batch of its own.
    """

    loaded: LoadedModel
    pool: Pool
    device: torch.device
    max_tokens: int
    batch_tokens: int

    def tokenize(self, sentences: Sequence[str]) -> Tokenized:
        """Ids of each sentence, at most `max_tokens`.

        Raises:
            UserError: a sentence that the tokenizer turns into nothing.
        """
        ids = self.loaded.tokenizer.encode(sentences)
        for sentence, found in zip(sentences, ids, strict=True):
            if not found:
                raise UserError(f"sentence {sentence!r} has no tokens in tokenizer {self.loaded.tokenizer.name}")
        truncated = sum(len(found) > self.max_tokens for found in ids)
        return Tokenized([found[: self.max_tokens] for found in ids], truncated)

    def encode(self, sentences: Sequence[str], layers: Sequence[int], progress: Progress | None = None) -> Tensor:
        """Pooled vectors [layers, sentences, hidden], fp32, on the CPU, in the order of `sentences`.

        Raises:
            NonFiniteError: a vector holds NaN or infinity.
        """
        tokenized = self.tokenize(sentences)
        vectors_LSD = self.encode_ids(tokenized.ids, layers, progress).cpu()
        self._check_finite(vectors_LSD, sentences, layers)
        return vectors_LSD

    @torch.inference_mode()
    def encode_ids(
        self, ids: Sequence[Sequence[int]], layers: Sequence[int], progress: Progress | None = None
    ) -> Tensor:
        """Pooled vectors [layers, sentences, hidden], fp32, on the device; ids as `tokenize` gives them."""
        hidden = self.loaded.model.config.hidden_size
        out_LSD = torch.empty(len(layers), len(ids), hidden, device=self.device)
        for batch in batches([len(found) for found in ids], self.batch_tokens):
            out_LSD[:, batch] = self._encode_batch([ids[index] for index in batch], layers)
            if progress is not None:
                progress(len(batch))
        return out_LSD

    def _encode_batch(self, ids: Sequence[Sequence[int]], layers: Sequence[int]) -> Tensor:
        packed = Packed.of([len(found) for found in ids], self.device)
        flat_T = torch.tensor([token for found in ids for token in found], device=self.device)
        # Pooling at once keeps [layers, batch, hidden] in memory, never [layers, tokens, hidden].
        pooled: dict[int, Tensor] = {}

        def keep(layer: int, h_TD: Tensor) -> None:
            pooled[layer] = self.pool(h_TD, packed)

        self.loaded.model(flat_T, packed, layers, keep)
        return torch.stack([pooled[layer] for layer in layers])

    def _check_finite(self, vectors_LSD: Tensor, sentences: Sequence[str], layers: Sequence[int]) -> None:
        bad_LS = ~torch.isfinite(vectors_LSD).all(-1)
        if bad_LS.any():
            layer, sentence = (int(index) for index in bad_LS.nonzero()[0])
            name = layer_name(layers[layer], self.loaded.model.config.num_hidden_layers)
            raise NonFiniteError(
                f"layer {name} of model {self.loaded.name} gives NaN or infinity for {int(bad_LS[layer].sum())} of "
                f"{len(sentences)} sentences, first {sentences[sentence]!r}"
            )


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Sentence numbers of each batch: longest first, as many as fit into `batch_tokens`, at least one."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    found: list[list[int]] = []
    room = 0
    for index in order:
        if not found or lengths[index] > room:
            found.append([])
            room = batch_tokens
        found[-1].append(index)
        room -= lengths[index]
    return found
