"""Sentences to pooled vectors per layer: tokenize, pack without padding, run, pool each layer as soon as it exists.

Shapes: L layers, S sentences in all, B in a batch of T packed tokens, P of them pooled, E of them end-of-text tokens, D
hidden size, H heads of K key and V value channels, A width of what is pooled; in `idf_V`, V entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import layer_name
from rwkv_sweep.config.schema import PromptConfig
from rwkv_sweep.embedding.pooling import (
    EOS,
    IDF,
    RESIDUAL,
    STATE,
    PooledTokens,
    idf_weights,
    name_of,
    pool,
    read_state,
    source_of,
    vector_size,
)
from rwkv_sweep.embedding.prompts import Tokenized, tokenize, tokenized_parts
from rwkv_sweep.errors import NonFiniteError
from rwkv_sweep.hardware.devices import current_device
from rwkv_sweep.models.common.interface import LoadedModel
from rwkv_sweep.ops.common.packing import Packed, batches, places_of_spans, to_device

__all__ = ["Batch", "Progress", "RwkvEncoder", "Tokenized", "batches"]

SENTENCES_AT_A_TIME = 16_384
"""Token ids, and vectors on the device, exist of so many sentences at a time."""

BATCH_TOKENS = {"cpu": 4096, "cuda": 32_768}
"""Tokens per packed batch where the config leaves them open: on a GPU fewer of a small model are done before the host
has launched what comes next."""

Progress = Callable[[int], None]
"""Called with the number of sentences just finished."""


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads, and what is pooled of it.

    Attributes:
        ids_T: packed token ids, the prompt's among them.
        packed: the sentences as they are read.
        pooled: the tokens that are pooled.
        index_P: their places among the T; None where all are pooled, which then costs no copy.
        ends: the end-of-text tokens, for the pooling `eos`; None where it is not asked for.
        index_E: their places among the T.
    """

    ids_T: Tensor
    packed: Packed
    pooled: PooledTokens
    index_P: Tensor | None
    ends: PooledTokens | None = None
    index_E: Tensor | None = None

    def pool(self, h_TD: Tensor, poolings: Sequence[str]) -> dict[str, Tensor]:
        """[B, D] of each pooling from one layer's output."""
        if not poolings:
            return {}
        at_ends = [name for name in poolings if name_of(name) == EOS]
        ends = {}
        if self.ends is not None and self.index_E is not None and at_ends:
            ends = {name: pool(name, h_TD.index_select(0, self.index_E), self.ends) for name in at_ends}
        if self.index_P is not None and len(poolings) > len(ends):
            h_TD = h_TD.index_select(0, self.index_P)
        return ends | {name: pool(name, h_TD, self.pooled) for name in poolings if name not in at_ends}


@dataclass(frozen=True)
class RwkvEncoder:
    """An RWKV and how it is used.

    Attributes:
        loaded: model and tokenizer.
        prompt: what is read in place of the bare sentence.
        device: where the model lies.
        max_tokens: longer texts are truncated, see `rwkv_sweep.embedding.prompts`.
        batch_tokens: tokens per packed batch; a single longer sentence makes a batch of its own.
        idf_V: for the pooling `idf`, see `idf_weights`.
        batch_size: sentences per packed batch at most; None sets no limit.
    """

    loaded: LoadedModel
    prompt: PromptConfig
    device: torch.device
    max_tokens: int
    batch_tokens: int
    idf_V: Tensor | None = None
    batch_size: int | None = None

    def tokenize(self, sentences: Sequence[str]) -> Tokenized:
        """See `rwkv_sweep.embedding.prompts.tokenize`."""
        return tokenize(self.prompt, self.loaded.tokenizer, sentences, self.max_tokens, self.loaded.end_of_text)

    def with_idf(self, texts: Iterable[Sequence[str]]) -> RwkvEncoder:
        """The same with `idf_V` from all sentences of `texts`."""
        parts = (
            group[first : first + SENTENCES_AT_A_TIME]
            for group in texts
            for first in range(0, len(group), SENTENCES_AT_A_TIME)
        )
        ids = (sentence_ids for part in parts for sentence_ids in self.tokenize(part).ids)
        return replace(self, idf_V=idf_weights(ids, self.loaded.model.config.vocab_size))

    def encode(
        self, sentences: Sequence[str], layers: Sequence[int], poolings: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """Pooled vectors [layers, sentences, D'] of each pooling, fp32, on the CPU, in the order of `sentences`, all
        from the same forward passes. D' is the hidden size, for `state` see `vector_size`.

        Raises:
            NoTokensError, UserError: see `tokenize`.
            NonFiniteError: a vector holds NaN or infinity.
            ValueError: `idf` without `idf_V`.
        """
        shape, count = self.loaded.model.config, len(sentences)
        vectors = {name: torch.empty(len(layers), count, vector_size(name, shape)) for name in poolings}
        finite = {name: torch.ones(len(layers), count, dtype=torch.bool) for name in poolings}
        # A GPU leaves the host time for the next sentences' tokens; a CPU has none to spare.
        ahead = self.device.type == "cuda"
        for rows, tokenized in tokenized_parts(self.tokenize, sentences, SENTENCES_AT_A_TIME, ahead):
            for name, part_LSD in self.encode_tokens(tokenized, layers, poolings, progress).items():
                finite[name][:, rows] = torch.isfinite(part_LSD).all(-1)
                vectors[name][:, rows] = part_LSD
        for name, finite_LS in finite.items():
            self._check_finite(finite_LS, sentences, layers, name)
        return vectors

    @torch.inference_mode()
    def encode_tokens(
        self, tokenized: Tokenized, layers: Sequence[int], poolings: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """As `encode`, from tokens, on the device and unchecked."""
        shape, count = self.loaded.model.config, len(tokenized.ids)
        out = {name: torch.empty(len(layers), count, vector_size(name, shape), device=self.device) for name in poolings}
        with current_device(self.device):
            for rows in batches([len(ids) for ids in tokenized.ids], self.batch_tokens, self.batch_size):
                rows_B = to_device(torch.tensor(rows), self.device)
                pooled = self.encode_batch(self.batch(tokenized, rows, poolings), layers, poolings)
                for name, vectors in pooled.items():
                    out[name].index_copy_(1, rows_B, torch.stack([vectors[layer] for layer in layers]))
                if progress is not None:
                    progress(len(rows))
        return out

    def batch(self, tokenized: Tokenized, rows: Sequence[int], poolings: Sequence[str]) -> Batch:
        """Lay out some of the sentences, with what `poolings` need to know of their tokens.

        Raises:
            ValueError: `idf` without `idf_V`, or `eos` of a model whose texts have no end-of-text tokens.
        """
        ids = [tokenized.ids[row] for row in rows]
        spans = [tokenized.spans[row] for row in rows]
        packed = Packed.of([len(tokens) for tokens in ids], self.device)
        ids_T = to_device(torch.from_numpy(tokenized.packed_ids(rows)), self.device)
        pooled, index_P = packed, None
        if any(end - start < len(tokens) for (start, end), tokens in zip(spans, ids, strict=True)):
            pooled = Packed.of([end - start for start, end in spans], self.device)
            index_P = to_device(places_of_spans(packed.lengths, spans), self.device)
        weights_P = None
        if IDF in map(name_of, poolings):
            if self.idf_V is None:
                raise ValueError("pooling by inverse document frequency needs the encoder's idf_V")
            weights_P = self.idf_V.to(self.device)[ids_T if index_P is None else ids_T[index_P]]
        batch = Batch(ids_T, packed, PooledTokens(pooled, weights_P), index_P)
        return batch if EOS not in map(name_of, poolings) else self._with_ends(batch, tokenized, rows)

    def _with_ends(self, batch: Batch, tokenized: Tokenized, rows: Sequence[int]) -> Batch:
        if not tokenized.ends:
            raise ValueError("pooling=eos needs a model whose texts have end-of-text tokens")
        places = [tokenized.ends[row] for row in rows]
        lengths_B = np.array(batch.packed.lengths)
        starts_B = np.cumsum(lengths_B) - lengths_B
        counts = [len(ends) for ends in places]
        flat_E = np.concatenate(places) + np.repeat(starts_B, counts)
        ends = PooledTokens(Packed.of(counts, self.device))
        return replace(batch, ends=ends, index_E=to_device(torch.from_numpy(flat_E), self.device))

    def encode_batch(
        self, batch: Batch, layers: Sequence[int], poolings: Sequence[str]
    ) -> dict[str, dict[int, Tensor]]:
        """Pooled vectors [B, D'] by pooling and layer, on the device, by work on the device alone. A forward is run for
        each source of `poolings`."""
        pooled: dict[str, dict[int, Tensor]] = {}
        for source in dict.fromkeys(map(source_of, poolings)):
            read = self._residual if source == RESIDUAL else self._inner
            pooled |= read(batch, layers, [name for name in poolings if source_of(name) == source])
        return pooled

    def _inner(self, batch: Batch, layers: Sequence[int], poolings: Sequence[str]) -> dict[str, dict[int, Tensor]]:
        """As `encode_batch`, of poolings of one source that lies inside of the blocks."""
        pooled: dict[str, dict[int, Tensor]] = {name: {} for name in poolings}

        def keep(layer: int, inner_TA: Tensor) -> None:
            for name, vectors_BA in batch.pool(inner_TA, poolings).items():
                pooled[name][layer] = vectors_BA

        self.loaded.model.inner_forward(batch.ids_T, batch.packed, layers, source_of(poolings[0]), keep)
        return pooled

    def _residual(self, batch: Batch, layers: Sequence[int], poolings: Sequence[str]) -> dict[str, dict[int, Tensor]]:
        """As `encode_batch`, of poolings of the blocks' outputs and states."""
        # The means of all tokens come from the network itself, which reads them while it has them at hand.
        whole = "mean" in poolings and batch.index_P is None
        of_tokens = [name for name in poolings if name != STATE and not (whole and name == "mean")]
        # Pooling at once keeps [layers, batch, hidden] in memory, never [layers, tokens, hidden].
        pooled: dict[str, dict[int, Tensor]] = {name: {} for name in poolings}

        def keep(layer: int, h_TD: Tensor) -> None:
            for name, vectors_BD in batch.pool(h_TD, of_tokens).items():
                pooled[name][layer] = vectors_BD

        def keep_state(layer: int, wkv_BHKV: Tensor, shift_B2D: Tensor) -> None:
            pooled[STATE][layer] = read_state(wkv_BHKV, shift_B2D)

        on_state = keep_state if STATE in poolings else None
        on_mean = pooled["mean"].__setitem__ if whole else None
        self.loaded.model(batch.ids_T, batch.packed, layers, keep if of_tokens else lambda *_: None, on_state, on_mean)
        return pooled

    def _check_finite(self, finite_LS: Tensor, sentences: Sequence[str], layers: Sequence[int], pooling: str) -> None:
        bad_LS = ~finite_LS
        if bad_LS.any():
            layer, sentence = (int(index) for index in bad_LS.nonzero()[0])
            name = layer_name(layers[layer], self.loaded.model.config.num_hidden_layers)
            raise NonFiniteError(
                f"layer {name} of model {self.loaded.name}, pooled by {pooling}, gives NaN or infinity for "
                f"{int(bad_LS[layer].sum())} of {len(sentences)} sentences, first {sentences[sentence]!r}"
            )


def tokens_per_batch(asked: int | None, device: torch.device) -> int:
    """What `batch_tokens` of the config means on this device."""
    return BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"]) if asked is None else asked
