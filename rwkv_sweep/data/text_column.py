"""Many sentences without as many Python objects: an Arrow column that reads like a list."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS_AT_A_TIME = 4096
"""Python strings alive at once while a column is written or read."""


class Texts(Sequence[str]):
    """Sentences in one Arrow column; about a fifth of the memory of a list of strings, and slices copy nothing."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    @classmethod
    def of(cls, sentences: Iterable[str]) -> Texts:
        """A column of these sentences, which may come one at a time.

        Raises:
            UnicodeEncodeError: a sentence is not valid Unicode (it holds a lone surrogate).
        """
        rest, parts = iter(sentences), []
        while part := list(islice(rest, ROWS_AT_A_TIME)):
            parts.append(cls(pa.chunked_array([_array(part)])))
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The sentences of all parts, in one chunk: reading a row of many would search for its chunk."""
        chunks = [chunk for part in parts for chunk in part._column.chunks]
        return cls(pa.chunked_array([pa.concat_arrays(chunks)] if chunks else [], pa.large_string()))

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Texts: ...
    def __getitem__(self, index: int | slice) -> str | Texts:
        if isinstance(index, slice):
            first, end, step = index.indices(len(self))
            if step != 1:
                return self.take(range(first, end, step))
            return Texts(self._column.slice(first, max(0, end - first)))
        return str(self._column[index].as_py())

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), ROWS_AT_A_TIME):
            yield from self._column.slice(first, ROWS_AT_A_TIME).to_pylist()

    def __add__(self, other: Texts) -> Texts:
        return Texts(pa.chunked_array([*self._column.chunks, *other._column.chunks], pa.large_string()))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return bool(self._column.equals(other._column))
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: Sequence[int] | np.ndarray) -> Texts:
        """Some of the sentences, in the order of `rows`."""
        return Texts(self._column.take(pa.array(rows, pa.int64())))

    def is_in(self, other: Texts) -> np.ndarray:
        """Of each sentence whether it stands in `other` too, bool [S]."""
        return np.asarray(pc.is_in(self._column, value_set=pc.unique(other._column)))

    def update(self, digest: hashlib._Hash) -> None:
        """Feed the sentences to a hash, each behind its length, so that no two lists look alike."""
        for sentence in self:
            data = sentence.encode()
            digest.update(len(data).to_bytes(8, "little") + data)


def _array(sentences: list[str]) -> pa.Array:
    """As `pa.array(sentences, pa.large_string())`, which imports pandas to see whether they are its series."""
    encoded = [sentence.encode() for sentence in sentences]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(data) for data in encoded], out=offsets[1:])
    return pa.LargeStringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))
