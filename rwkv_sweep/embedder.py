"""Sentences to one vector each: an encoder, its layers, and how these become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.aggregation import aggregate
from rwkv_sweep.config import AggregationConfig
from rwkv_sweep.extract import RwkvEncoder
from rwkv_sweep.naive import encode_tokens_naive
from rwkv_sweep.postprocess import Postprocess
from rwkv_sweep.prompt import Tokenized


@dataclass(frozen=True)
class Embedder:
    """What a run's embeddings are made by.

    Attributes:
        layers, pooling, aggregation: as in the run's config.
        postprocess: fitted, or None.
        keep_layers: the naive arm: keep every layer's tokens, stack, then pool; for comparison only.
    """

    encoder: RwkvEncoder
    layers: Sequence[int]
    pooling: str
    aggregation: AggregationConfig
    postprocess: Postprocess | None = None
    keep_layers: bool = False

    def embed_tokens(self, tokenized: Tokenized) -> Tensor:
        """[S, D'] on the device: what throughput is of."""
        if self.keep_layers:
            vectors_LSD = encode_tokens_naive(self.encoder, tokenized, self.layers, self.pooling)
        else:
            vectors_LSD = self.encoder.encode_tokens(tokenized, self.layers, [self.pooling])[self.pooling]
        return self.combine(vectors_LSD)

    def score_pair(self, first: str, second: str) -> float:
        """Cosine of two sentences, from text to number: what a pair's latency is of."""
        one, other = self.embed_tokens(self.encoder.tokenize((first, second)))
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    def combine(self, vectors_LSD: Tensor) -> Tensor:
        """Pooled vectors per layer [layers, S, D] to sentence vectors [S, D'], where they lie."""
        vectors_SD = aggregate(vectors_LSD, self.aggregation, self.layers)
        if self.postprocess is None:
            return vectors_SD
        done: np.ndarray = self.postprocess.apply(vectors_SD.cpu().numpy())
        return torch.from_numpy(done).to(vectors_SD.device)
