"""Sentences of different lengths laid end to end, without padding.

Shapes: T packed tokens, B sentences, N chunks or spans, C tokens of a chunk, A sentences that have a chunk at one step,
D hidden size, H heads of K key and V value channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CHUNK = 16
"""Tokens that the fused WKV operator reads at once."""


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A copy on `device` that the host need not wait for: from ordinary memory it would, until the GPU is idle."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class ChunkPlan:
    """How packed tokens are cut into chunks of C tokens, none of which crosses a sentence.

    Chunks are numbered step by step: first the first chunk of every sentence, then the second of those that have one,
    with the sentences in the order `order` (longest first), so that the chunks of one step are neighbours.

    Attributes:
        size: C, tokens per chunk.
        gather_NC: packed position of each token of each chunk; T (one past the end) where the last chunk is not full.
        scatter_T: for each packed token its place in the flattened [N * C].
        steps: number of sentences that have a chunk at each step.
        order_B: sentence numbers, longest first.
    """

    size: int
    gather_NC: Tensor
    scatter_T: Tensor
    steps: tuple[int, ...]
    order_B: Tensor

    def to_chunks(self, x_THK: Tensor) -> Tensor:
        """[T, H, K] to [N, H, C, K], zeros where the last chunk of a sentence is not full."""
        padded = torch.cat((x_THK, x_THK.new_zeros(1, *x_THK.shape[1:])))
        gathered = padded.index_select(0, self.gather_NC.flatten())
        return gathered.unflatten(0, self.gather_NC.shape).transpose(1, 2)

    def from_chunks(self, y_NHCV: Tensor) -> Tensor:
        """[N, H, C, V] back to [T, H, V]."""
        return y_NHCV.transpose(1, 2).flatten(0, 1).index_select(0, self.scatter_T)


@dataclass(frozen=True)
class Packed:
    """The lengths of a packed batch of B sentences and T tokens.

    Attributes:
        lengths: tokens of each sentence, at least 1 each.
        cu_seqlens_B1: where each sentence starts, and T at the end; int64 on the device of the batch.
    """

    lengths: tuple[int, ...]
    cu_seqlens_B1: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Packed:
        """Lay out sentences of these lengths on `device`.

        Raises:
            ValueError: a length below 1.
        """
        if any(length < 1 for length in lengths):
            raise ValueError("a packed sentence needs at least one token")
        return cls(tuple(lengths), to_device(_cumulative(lengths), device))

    @property
    def tokens(self) -> int:
        """T, the number of tokens of the batch."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence; 0 in an empty batch."""
        return max(self.lengths, default=0)

    @property
    def starts_B(self) -> Tensor:
        return self.cu_seqlens_B1[:-1]

    @property
    def last_B(self) -> Tensor:
        return self.cu_seqlens_B1[1:] - 1

    def shift(self, x_TD: Tensor) -> Tensor:
        """The row before each token's own, zero for the first token of each sentence."""
        previous = torch.cat((x_TD[:1], x_TD[:-1]))
        return previous.index_fill(0, self.starts_B, 0.0)

    @cached_property
    def first_T(self) -> Tensor:
        """1 for the first token of each sentence, 0 for the others, int8; made once a batch, shared by all blocks."""
        first = torch.zeros(self.tokens + 1, dtype=torch.int8, device=self.cu_seqlens_B1.device)
        return first.index_fill_(0, self.cu_seqlens_B1, 1)[:-1]

    @cached_property
    def _spans(self) -> dict[int, Tensor]:
        return {}

    def spans(self, size: int) -> Tensor:
        """[start, end) of runs of at most `size` tokens, none of which crosses a sentence, in order: int32 [N, 2].

        Each sentence is cut into as few runs as there can be, of equal length but for one token. Made once a batch.
        """
        if size not in self._spans:
            self._spans[size] = to_device(_spans(self.lengths, size), self.cu_seqlens_B1.device)
        return self._spans[size]

    @cached_property
    def _span_offsets(self) -> dict[int, Tensor]:
        return {}

    def span_offsets(self, size: int) -> Tensor:
        """Where each sentence's part of `spans(size)` starts, and their number at the end: int64 [B + 1]."""
        if size not in self._span_offsets:
            counts = [(length + size - 1) // size for length in self.lengths]
            self._span_offsets[size] = to_device(_cumulative(counts), self.cu_seqlens_B1.device)
        return self._span_offsets[size]

    @cached_property
    def _earlier(self) -> dict[int, Tensor]:
        return {}

    def earlier(self, size: int) -> Tensor:
        """For each of `spans(size)`, how many spans of its sentence come before it: int32 [N]; made once a batch."""
        if size not in self._earlier:
            self._earlier[size] = to_device(_span_places(self.lengths, size)[1].int(), self.cu_seqlens_B1.device)
        return self._earlier[size]

    @cached_property
    def _plans(self) -> dict[int, ChunkPlan]:
        return {}

    def chunk_plan(self, size: int) -> ChunkPlan:
        """The cut into chunks of `size` tokens; made once a batch, shared by all blocks."""
        if size not in self._plans:
            self._plans[size] = _plan(self, size)
        return self._plans[size]


def _cumulative(counts: Sequence[int]) -> Tensor:
    """Sums of the counts before each one, and of all at the end: int64 [len(counts) + 1]."""
    sums = torch.zeros(len(counts) + 1, dtype=torch.int64)
    torch.cumsum(torch.tensor(counts, dtype=torch.int64), 0, out=sums[1:])
    return sums


def _span_places(lengths: Sequence[int], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each span: its sentence, its place among that sentence's spans, and how many these are."""
    counts_B = (torch.tensor(lengths, dtype=torch.int64) + size - 1) // size
    of_N = torch.arange(len(lengths)).repeat_interleave(counts_B)
    place_N = torch.arange(len(of_N)) - (counts_B.cumsum(0) - counts_B)[of_N]
    return of_N, place_N, counts_B[of_N]


def _spans(lengths: Sequence[int], size: int) -> Tensor:
    of_N, place_N, count_N = _span_places(lengths, size)
    lengths_B = torch.tensor(lengths, dtype=torch.int64)
    start_N = (lengths_B.cumsum(0) - lengths_B)[of_N]
    begin_N, end_N = (at_N * lengths_B[of_N] // count_N for at_N in (place_N, place_N + 1))
    return torch.stack((start_N + begin_N, start_N + end_N), 1).int()


def _plan(packed: Packed, size: int) -> ChunkPlan:
    lengths_B = torch.tensor(packed.lengths, dtype=torch.int64)
    starts_B = torch.zeros_like(lengths_B)
    torch.cumsum(lengths_B[:-1], 0, out=starts_B[1:])
    chunks_B = (lengths_B + size - 1) // size
    order_B = torch.argsort(chunks_B, descending=True, stable=True)
    steps = _steps(chunks_B)
    rows = []
    for step, active in enumerate(steps):
        sentence_A = order_B[:active]
        first_A = starts_B[sentence_A] + step * size
        end_A = starts_B[sentence_A] + lengths_B[sentence_A]
        place_AC = first_A[:, None] + torch.arange(size)
        rows.append(torch.where(place_AC < end_A[:, None], place_AC, packed.tokens))
    gather_NC = torch.cat(rows) if rows else torch.zeros((0, size), dtype=torch.int64)
    scatter = torch.empty(packed.tokens + 1, dtype=torch.int64)
    scatter[gather_NC.flatten()] = torch.arange(gather_NC.numel())
    device = packed.cu_seqlens_B1.device
    return ChunkPlan(size, gather_NC.to(device), scatter[:-1].to(device), steps, order_B.to(device))


def _steps(chunks_B: Tensor) -> tuple[int, ...]:
    longest = int(chunks_B.max()) if len(chunks_B) else 0
    return tuple(int((chunks_B > step).sum()) for step in range(longest))


def places_of_spans(lengths: Sequence[int], spans: Sequence[tuple[int, int]]) -> Tensor:
    """Packed positions of the tokens of every span, one after another."""
    places, offset = [], 0
    for length, (start, end) in zip(lengths, spans, strict=True):
        places.append(torch.arange(offset + start, offset + end))
        offset += length
    return torch.cat(places)


def batches(lengths: Sequence[int], batch_tokens: int, batch_size: int | None = None) -> list[list[int]]:
    """Sentence numbers of each batch: longest first, as many as fit and are allowed, at least one."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    grouped: list[list[int]] = []
    tokens_left = 0
    for index in order:
        if not grouped or lengths[index] > tokens_left or len(grouped[-1]) == batch_size:
            grouped.append([])
            tokens_left = batch_tokens
        grouped[-1].append(index)
        tokens_left -= lengths[index]
    return grouped
