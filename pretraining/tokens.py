"""The corpus as token ids: one array a split, with the places where sentences begin.

Made once per tokenizer and set of sources and kept in a cache folder, as tokenizing takes longer than loading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from pretraining.corpus import is_validation, read_documents, source_name, sources, split_sentences

SEPARATOR = 0
"""Id of the token between documents."""
DOCUMENTS_PER_TASK = 200


@dataclass(frozen=True)
class TokenSet:
    """ids [T] uint16. starts: positions where sentences begin. text_bytes: UTF-8 bytes of the text behind them."""

    ids: np.ndarray
    starts: np.ndarray
    text_bytes: int
    vocab_size: int

    @property
    def bytes_per_token(self) -> float:
        return self.text_bytes / len(self.ids)


def load_or_make(corpus: Path, tokenizer: Path, cache: Path, only: Sequence[str]) -> tuple[TokenSet, TokenSet]:
    """Train and validation tokens of the sources whose names start with one of `only`."""
    key = hashlib.sha256(tokenizer.read_bytes() + repr(sorted(only)).encode()).hexdigest()[:12]
    paths = [cache / f"{key}-{split}.npz" for split in ("train", "validation")]
    if not all(path.exists() for path in paths):
        cache.mkdir(parents=True, exist_ok=True)
        for path, tokens in zip(paths, _make(corpus, tokenizer, only), strict=True):
            np.savez(path, ids=tokens.ids, starts=tokens.starts, sizes=[tokens.text_bytes, tokens.vocab_size])
    return _load(paths[0]), _load(paths[1])


def _load(path: Path) -> TokenSet:
    with np.load(path) as saved:
        text_bytes, vocab_size = (int(size) for size in saved["sizes"])
        return TokenSet(saved["ids"], saved["starts"], text_bytes, vocab_size)


def _make(corpus: Path, tokenizer: Path, only: Sequence[str]) -> tuple[TokenSet, TokenSet]:
    parts: tuple[list, list] = ([], [])
    with ProcessPoolExecutor() as pool:
        for arrays in pool.map(partial(_encode, str(tokenizer)), _tasks(corpus, only)):
            for split, part in zip(parts, arrays, strict=True):
                split.append(part)
    vocab_size = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    return _join(parts[0], vocab_size), _join(parts[1], vocab_size)


def _tasks(corpus: Path, only: Sequence[str]) -> Iterator[list[list[str]]]:
    for path in sources(corpus):
        if source_name(path).startswith(tuple(only)):
            task: list[list[str]] = []
            for document in read_documents(path):
                task.append(document)
                if len(task) == DOCUMENTS_PER_TASK or sum(map(len, document)) > 10**6:
                    yield task
                    task = []
            yield task


def _encode(tokenizer: str, documents: list[list[str]]) -> tuple[tuple, tuple]:
    """Train and validation parts of some documents: ids, sentence starts, bytes."""
    encoder = Tokenizer.from_file(tokenizer)
    arrays = []
    for validation in (False, True):
        ids: list[np.ndarray] = []
        starts, place, size = [], 0, 0
        for document in documents:
            if is_validation(document) != validation:
                continue
            sentences = [sentence for paragraph in document for sentence in split_sentences(paragraph)]
            size += sum(len(sentence.encode()) + 1 for sentence in sentences)
            for encoding in encoder.encode_batch(sentences, add_special_tokens=False):
                ids.append(np.array(encoding.ids, dtype=np.uint16))
                starts.append(place)
                place += len(encoding.ids)
            ids.append(np.array([SEPARATOR], dtype=np.uint16))
            place += 1
        joined = np.concatenate(ids) if ids else np.empty(0, np.uint16)
        arrays.append((joined, np.array(starts, dtype=np.int64), size))
    return arrays[0], arrays[1]


def _join(parts: list, vocab_size: int) -> TokenSet:
    offsets = np.cumsum([0] + [len(part[0]) for part in parts[:-1]])
    starts = np.concatenate([part[1] + offset for part, offset in zip(parts, offsets, strict=True)])
    return TokenSet(np.concatenate([part[0] for part in parts]), starts, sum(part[2] for part in parts), vocab_size)
