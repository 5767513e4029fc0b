"""Pooled vectors of any layer, from the store where it has them, else from one forward pass that fills the store.

Shapes: L layers, S sentences, D hidden size, V entries of the vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.cache import GIB, EmbeddingStore, content_key
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import IDF, RESIDUAL, STATE, name_of, source_of, vector_size
from rwkv_sweep.utils.console import log_line, progress_bar
from rwkv_sweep.utils.stage_timer import Stopwatch

LARGEST_ENTRY_GIB = 1.0
"""Vectors beyond this size (states of many sentences) are computed for the layers asked for, and not kept."""


class VectorSource:
    """Vectors for quality; latency and throughput never come from here.

    A pass that fills the store takes all layers and all poolings the sweep will want, so that every further layer,
    pooling, aggregation and post-processing costs no forward.
    """

    def __init__(
        self,
        encoder: RwkvEncoder,
        precision: PrecisionConfig,
        poolings: Sequence[str],
        store: EmbeddingStore | None,
        clock: Stopwatch | None = None,
    ) -> None:
        """
        Args:
            encoder: computes what is not stored.
            precision: the encoder's.
            poolings: those of the whole sweep.
            store: None to compute just what is asked for, each time.
            clock: counts the time spent in forwards.
        """
        self._encoder, self._precision, self._poolings, self._store = encoder, precision, poolings, store
        self._clock = clock or Stopwatch()
        self.forwards = 0

    def with_encoder(self, encoder: RwkvEncoder, precision: PrecisionConfig) -> VectorSource:
        """The same store and poolings for another precision."""
        return VectorSource(encoder, precision, self._poolings, self._store, self._clock)

    @property
    def failure(self) -> str | None:
        """Why the store was not used as it should be, if so."""
        return None if self._store is None else self._store.failure

    def of(self, sentences: Sequence[str], pooling: str, layers: Sequence[int]) -> Tensor:
        """[layers, S, D] fp32 on the CPU, as `RwkvEncoder.encode` gives them.

        Raises:
            NonFiniteError: a vector holds NaN or infinity.
        """
        if self._store is None or self._too_large(pooling, len(sentences)):
            return self._forward(sentences, layers, [pooling])[pooling]
        key = self._key(sentences, pooling)
        place = {layer: index for index, layer in enumerate(self.all_layers(pooling))}
        with self._store.lock(key):
            vectors_LSD = self._store.get(key)
            if vectors_LSD is None and not self._store.can_be_written():
                return self._forward(sentences, layers, [pooling])[pooling]
            if vectors_LSD is None:
                vectors_LSD = self._fill(sentences, pooling)
        return torch.from_numpy(np.stack([vectors_LSD[place[layer]] for layer in layers]))

    def _fill(self, sentences: Sequence[str], pooling: str) -> np.ndarray:
        """One forward pass for this pooling and the others of the sweep that the store does not have; all go there, and
        those of this one, [all layers, S, D], are returned."""
        assert self._store is not None
        others = [name for name in self._poolings if name != pooling and not self._too_large(name, len(sentences))]
        missing = [pooling, *(name for name in others if self._store.get(self._key(sentences, name)) is None)]
        # `state` and what lies inside of the blocks have no embedding and no final layer: passes of their own.
        together = [name for name in missing if _pass_of(name) == _pass_of(pooling)]
        computed = self._forward(sentences, self.all_layers(pooling), together)
        for name, vectors_LSD in computed.items():
            about = {"model": self._encoder.loaded.name, "precision": self._precision.name, "pooling": name}
            about |= {"prompt": self._encoder.prompt.name, "shape": "x".join(map(str, vectors_LSD.shape))}
            self._store.put(self._key(sentences, name), vectors_LSD.numpy(), about)
        return computed[pooling].numpy()

    def _forward(self, sentences: Sequence[str], layers: Sequence[int], poolings: Sequence[str]) -> dict[str, Tensor]:
        self.forwards += 1
        with self._clock.stage("forward"), progress_bar(len(sentences), self._encoder.loaded.name) as advance:
            return self._encoder.encode(sentences, layers, poolings, advance)

    def all_layers(self, pooling: str) -> list[int]:
        """Every layer that has a vector by this pooling; one pass that fills the store gives them all."""
        blocks = self._encoder.loaded.model.config.num_hidden_layers
        return list(range(blocks)) if _pass_of(pooling) != RESIDUAL else [EMBEDDING, *range(blocks + 1)]

    def _too_large(self, pooling: str, sentences: int) -> bool:
        config = self._encoder.loaded.model.config
        width = vector_size(pooling, config)
        large = 4 * width * sentences * len(self.all_layers(pooling)) > LARGEST_ENTRY_GIB * GIB
        if large and self._store is not None:
            log_line(f"pooling={pooling} of all layers of {sentences} sentences is too large for the store: not kept")
        return large

    def _key(self, sentences: Sequence[str], pooling: str) -> str:
        loaded = self._encoder.loaded
        return content_key(
            model=loaded.fingerprint,
            tokenizer=loaded.tokenizer.fingerprint,
            precision=asdict(self._precision),
            kernels=loaded.kernel_tags,
            device=self._encoder.device.type,
            prompt=asdict(self._encoder.prompt),
            max_tokens=self._encoder.max_tokens,
            # LLM.int8 chooses its outlier columns over a whole batch.
            batch_tokens=self._encoder.batch_tokens,
            pooling=pooling,
            idf=self._idf_digest() if name_of(pooling) == IDF else None,
            sentences=_digest(sentences),
        )

    def _idf_digest(self) -> str | None:
        """The weights come from all splits of a run, so the sentences at hand do not tell them."""
        idf_V = self._encoder.idf_V
        return None if idf_V is None else hashlib.sha256(idf_V.cpu().numpy().tobytes()).hexdigest()


def _pass_of(pooling: str) -> str:
    """Equal for poolings whose vectors one forward gives for all their layers."""
    return STATE if pooling == STATE else source_of(pooling)


def _digest(sentences: Sequence[str]) -> str:
    digest = hashlib.sha256()
    (sentences if isinstance(sentences, Texts) else Texts.of(sentences)).update(digest)
    return digest.hexdigest()
