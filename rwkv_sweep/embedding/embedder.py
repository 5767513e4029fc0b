"""Sentences to one vector each: an encoder, its layers, and how these become one.

Shapes: L layers, S sentences, D hidden size.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.config.schema import AggregationConfig
from rwkv_sweep.embedding.aggregation import aggregate
from rwkv_sweep.embedding.cuda_graphs import CapturedPairs
from rwkv_sweep.embedding.hidden_states_baseline import encode_batch_naive, encode_tokens_naive
from rwkv_sweep.embedding.layer_encoder import Batch, RwkvEncoder
from rwkv_sweep.embedding.pooling import EOS, IDF, RESIDUAL, name_of, source_of, vector_size
from rwkv_sweep.embedding.postprocessing import Postprocess
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.models.quantization import needs_host

REFERENCE_TEXTS = (
    "A cat sleeps.",
    "Prices rose by 3 percent!",
    "Why?",
)
"""Texts that show whether two programs, or two machines, compute the same vectors; short, as each run encodes them."""


@dataclass(frozen=True)
class Embedder:
    """What a run's embeddings are made by.

    Attributes:
        layers, pooling, aggregation: as in the run's config.
        postprocess: fitted, or None.
        keep_layers: the `output_hidden_states` baseline: keep every layer's tokens, stack, then pool; for
            comparison only.
    """

    encoder: RwkvEncoder
    layers: Sequence[int]
    pooling: str
    aggregation: AggregationConfig
    postprocess: Postprocess | None = None
    keep_layers: bool = False

    @property
    def dimension(self) -> int:
        """D', the length of a finished vector."""
        if self.postprocess is not None and self.postprocess.whitening_DR is not None:
            return int(self.postprocess.whitening_DR.shape[1])
        size = vector_size(self.pooling, self.encoder.loaded.model.config)
        return size * len(self.layers) if self.aggregation.name == "concat" else size

    def embed_tokens(self, tokenized: Tokenized) -> Tensor:
        """[S, D'] on the device: what throughput is of."""
        if self.keep_layers:
            vectors_LSD = encode_tokens_naive(self.encoder, tokenized, self.layers, self.pooling)
        else:
            vectors_LSD = self.encoder.encode_tokens(tokenized, self.layers, [self.pooling])[self.pooling]
        return self.combine(vectors_LSD)

    def reference_cosines(self) -> list[float]:
        """Cosine of each two of `REFERENCE_TEXTS`, from one forward pass.

        Raises:
            NonFiniteError: a vector holds NaN or infinity.
        """
        vectors_LSD = self.encoder.encode(REFERENCE_TEXTS, self.layers, [self.pooling])[self.pooling]
        unit_SD = torch.nn.functional.normalize(self.combine(vectors_LSD).double(), dim=1)
        rows, columns = torch.triu_indices(len(REFERENCE_TEXTS), len(REFERENCE_TEXTS), 1)
        cosines: list[float] = (unit_SD[rows] * unit_SD[columns]).sum(1).tolist()
        return cosines

    def score_pair(self, first: str, second: str) -> float:
        """Cosine of two sentences, from text to number: what a pair's latency is of."""
        tokenized = self.encoder.tokenize((first, second))
        graph = None if self._captured is None else self._captured.graph_of(tokenized)
        if graph is None:
            vectors_2D = self.embed_tokens(tokenized)
        else:
            score = graph.score(tokenized)
            if self.postprocess is None:
                return score
            vectors_2D = self._finished(graph.vectors_2D)
        return float(torch.nn.functional.cosine_similarity(vectors_2D[0], vectors_2D[1], dim=0))

    def prepare_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Capture the graphs that these pairs will need, so that no timing meets a capture; nothing on a CPU."""
        if self._captured is not None:
            for pair in pairs:
                self._captured.graph_of(self.encoder.tokenize(pair))

    def rehearse_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Run what scores pairs of these sizes, once, without capturing it; for `compiled_ahead`."""
        for tokenized in {self.pair_shape(pair): self.encoder.tokenize(pair) for pair in pairs}.values():
            if self._captured is None:
                self.embed_tokens(tokenized)
            else:
                self._captured.rehearse(tokenized)

    def pair_shape(self, pair: tuple[str, str]) -> object:
        """Pairs of one shape run the same kernels: the tokens of their graph, or of both sentences."""
        tokenized = self.encoder.tokenize(pair)
        size = None if self._captured is None else self._captured.size_of(tokenized)
        return tuple(map(len, tokenized.ids)) if size is None else size

    @property
    def pair_path(self) -> str:
        """How single pairs run, for the record: known for sure only once some have."""
        reason = self._why_eager if self._captured is None else self._captured.reason
        if reason is None:
            return "eager" if self._captured is None else "CUDA graph"
        return f"eager ({reason})"

    @property
    def _why_eager(self) -> str | None:
        """Why pairs on a GPU are not captured as CUDA graphs, from what is known of the model; None where they are, and
        on a CPU, which has none."""
        model, device = self.encoder.loaded.model, self.encoder.device
        if device.type != "cuda":
            return None
        if self.encoder.batch_tokens == 1:
            return "a graph runs both sentences at once, and batch_tokens=1 forbids that"
        if source_of(self.pooling) != RESIDUAL:
            return f"pooling.source={source_of(self.pooling)} runs the plain blocks"
        return model.capture_obstacle(device) or needs_host(model)

    @functools.cached_property
    def _captured(self) -> CapturedPairs | None:
        if self.encoder.device.type != "cuda" or self._why_eager is not None:
            return None
        # Of a copy: bound to this one, graphs would wait for the garbage collector and not go with their embedder.
        name = name_of(self.pooling)
        return CapturedPairs(self.encoder, replace(self)._pair_vectors, name == IDF, name == EOS)

    def _pair_vectors(self, batch: Batch) -> Tensor:
        """[2, D'] of a pair and its padding, before post-processing."""
        if self.keep_layers:
            vectors_LSD = encode_batch_naive(self.encoder, batch, self.layers, self.pooling)
        else:
            by_layer = self.encoder.encode_batch(batch, self.layers, [self.pooling])[self.pooling]
            vectors_LSD = torch.stack([by_layer[layer] for layer in self.layers])
        return aggregate(vectors_LSD[:, :2], self.aggregation, self.layers)

    def combine(self, vectors_LSD: Tensor) -> Tensor:
        """Pooled vectors per layer [layers, S, D] to sentence vectors [S, D'], where they lie."""
        return self._finished(aggregate(vectors_LSD, self.aggregation, self.layers))

    def _finished(self, vectors_SD: Tensor) -> Tensor:
        """Post-processed, where that is asked for."""
        if self.postprocess is None:
            return vectors_SD
        done: np.ndarray = self.postprocess.apply(vectors_SD.cpu().numpy())
        return torch.from_numpy(done).to(vectors_SD.device)
