"""Single pairs on a GPU: from token ids to the score as one CUDA graph for each size of pair.

A pair's forward is hundreds of kernels of a few microseconds, and launching them one by one takes many times as long as
running them. A graph launches them all at once, but its shapes are fixed: pairs are filled up to a size in `SIZES` by
a third sentence of padding, which nothing reads.

Shapes: T packed tokens, P of them pooled, N spans, D hidden size, V entries of the vocabulary.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.embedding.layer_encoder import Batch, RwkvEncoder
from rwkv_sweep.embedding.pooling import PooledTokens
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.hardware.devices import current_device
from rwkv_sweep.ops.common.packing import CHUNK, Packed

SIZES = (32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
"""Tokens of both sentences and at least one of padding. Pairs longer than the last run eagerly."""
WARM_UPS = 2

Vectors = Callable[[Batch], Tensor]
"""A batch of three sentences to sentence vectors [2, D'] of the first two, by work on the device alone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilledPacked(Packed):
    """A pair and its padding, whose lengths are known on the device only; `lengths` merely has their number and sum.

    Attributes:
        spans_N2, earlier_N: in place of those of `Packed`, of any size.
    """

    spans_N2: Tensor | None = None
    earlier_N: Tensor | None = None

    def spans(self, size: int) -> Tensor:
        """See `Packed.spans`; some may be empty."""
        assert self.spans_N2 is not None
        return self.spans_N2

    def earlier(self, size: int) -> Tensor:
        """See `Packed.earlier`."""
        assert self.earlier_N is not None
        return self.earlier_N


class CapturedPairs:
    """Scores pairs by graphs that are captured when a size is first met.

    Args:
        encoder: tokens to batches; its model lies on a GPU.
        vectors: what is captured, with the cosine behind it.
        idf: whether `vectors` reads weights of tokens.
        eos: whether it reads the end-of-text tokens alone.

    Attributes:
        reason: why pairs cannot be captured, once that is known; None as long as they can.
    """

    def __init__(self, encoder: RwkvEncoder, vectors: Vectors, idf: bool, eos: bool = False) -> None:
        self._encoder, self._vectors, self._eos = encoder, vectors, eos
        self._idf_V = encoder.idf_V.to(encoder.device) if idf and encoder.idf_V is not None else None
        self._graphs: dict[tuple[int, bool], _Graph] = {}
        with current_device(encoder.device):
            self._pool = torch.cuda.graph_pool_handle()
        self.reason: str | None = None

    def graph_of(self, tokenized: Tokenized) -> _Graph | None:
        """The graph for a pair of this size, captured if need be; None for a pair that must run eagerly."""
        size, partly = self.size_of(tokenized), self._partly(tokenized)
        if size is None or self.reason is not None:
            return None
        if (size, partly) not in self._graphs:
            try:
                with current_device(self._encoder.device):
                    graph = self._graph(tokenized, size, partly)
                    graph.capture(self._pool)
            except Exception as error:  # whatever a layer does that a graph cannot hold, each library has its own error
                self.reason = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else repr(error)
                log.warning("single pairs run eagerly, as they cannot be captured as a CUDA graph: %s", self.reason)
                return None
            self._graphs[size, partly] = graph
        return self._graphs[size, partly]

    @staticmethod
    def size_of(tokenized: Tokenized) -> int | None:
        """Tokens of the graph for a pair; None where it is too long for any."""
        return next((size for size in SIZES if size > tokenized.tokens), None)

    def rehearse(self, tokenized: Tokenized) -> None:
        """Run what the graph for a pair of this size would hold, once, without capturing it."""
        if (size := self.size_of(tokenized)) is not None:
            self._graph(tokenized, size, self._partly(tokenized)).run()

    def _partly(self, tokenized: Tokenized) -> bool:
        """Whether only a part of the tokens is pooled."""
        pairs = zip(tokenized.spans, tokenized.ids, strict=True)
        return self._eos or any(end - start < len(ids) for (start, end), ids in pairs)

    def _graph(self, tokenized: Tokenized, size: int, partly: bool) -> _Graph:
        return _Graph(self._vectors, size, partly, self._eos, self._idf_V, tokenized, self._encoder.device)


class _Graph:
    """One size of pairs, ready to be captured.

    Attributes:
        vectors_2D: sentence vectors of the last pair, on the device, once it is captured.
    """

    vectors_2D: Tensor

    def __init__(
        self,
        vectors: Vectors,
        size: int,
        partly: bool,
        eos: bool,
        idf_V: Tensor | None,
        example: Tokenized,
        device: torch.device,
    ) -> None:
        self._vectors = vectors
        self._size, self._partly, self._eos, self._idf_V = size, partly, eos, idf_V
        # ids; cu_seqlens; spans and their numbers; where only parts are pooled, places and cu_seqlens of those tokens.
        spans = size // CHUNK + 3
        self._parts = (size, 4, 2 * spans, spans, size if partly else 0, 4 if partly else 0)
        self._host = torch.zeros(sum(self._parts), dtype=torch.int64, pin_memory=True)
        self._host_numbers = self._host.numpy()
        self._score = torch.zeros(1, pin_memory=True)
        self._fill(example)
        self._staged = torch.empty(sum(self._parts), dtype=torch.int64, device=device)
        self._device = device

    def capture(self, pool: Any) -> None:
        """Capture it. pool: of the memory that all graphs share."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._run()
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with (
                _no_garbage_collection(),
                torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
            ):
                self.vectors_2D = self._run()
            # The first replay copies the graph to the device, which belongs to no pair's time.
            self._graph.replay()
            stream.synchronize()

    def run(self) -> None:
        """Run it once, uncaptured."""
        with torch.inference_mode():
            self._run()

    def score(self, tokenized: Tokenized) -> float:
        """Cosine of a pair of this size."""
        self._fill(tokenized)
        with torch.cuda.device(self._device):  # a graph runs on the current device's stream
            self._graph.replay()
        torch.cuda.current_stream(self._device).synchronize()
        return float(self._score[0])

    def _run(self) -> Tensor:
        self._staged.copy_(self._host, non_blocking=True)
        ids_T, cu_seqlens_4, spans, earlier, places, pooled_cu_seqlens_4 = self._staged.split(self._parts)
        lengths = (1, 1, self._size - 2)
        packed = FilledPacked(lengths, cu_seqlens_4, spans.view(-1, 2), earlier)
        pooled = Packed(lengths, pooled_cu_seqlens_4) if self._partly else packed
        read_P = ids_T[places] if self._partly else ids_T
        weights_P = None if self._idf_V is None else self._idf_V[read_P]
        if self._eos:
            batch = Batch(ids_T, packed, PooledTokens(packed), None, PooledTokens(pooled), places)
        else:
            batch = Batch(ids_T, packed, PooledTokens(pooled, weights_P), places if self._partly else None)
        vectors_2D = self._vectors(batch)
        score = torch.nn.functional.cosine_similarity(vectors_2D[0], vectors_2D[1], dim=0)
        self._score.copy_(score.reshape(1), non_blocking=True)
        return vectors_2D

    def _fill(self, tokenized: Tokenized) -> None:
        """Write a pair and its padding into the memory that the graph reads from."""
        first, second = tokenized.ids
        ends = (len(first), len(first) + len(second), self._size)
        row = first + second
        row += [0] * (self._size - len(row)) + [0, *ends]
        spans, earlier = _spans(ends)
        row += spans + [0] * (self._parts[2] - len(spans)) + earlier + [0] * (self._parts[3] - len(earlier))
        if self._partly:
            row += _read_places(tokenized.ends if self._eos else [range(*span) for span in tokenized.spans], ends)
        self._host_numbers[:] = row


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """An older graph that is collected while another is captured would break the capture, and the process with it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_places(places: Sequence[Sequence[int]], ends: tuple[int, ...]) -> list[int]:
    """Places of the pooled tokens of a pair among those of the batch, filled up to its size, and their `cu_seqlens`.

    places: in each sentence. ends: of the two sentences and the padding.
    """
    first, second = places
    both, size = [*first, *(ends[0] + place for place in second)], ends[-1]
    return both + [0] * (size - len(both)) + [0, len(first), len(both), size]


def _spans(ends: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """`Packed.spans`, laid flat, and `Packed.earlier` of sentences that end there."""
    span_ends: list[int] = []
    earlier: list[int] = []
    start = 0
    for end in ends:
        for count, at in enumerate(range(start, end, CHUNK)):
            span_ends += [at, min(at + CHUNK, end)]
            earlier.append(count)
        start = end
    return span_ends, earlier
