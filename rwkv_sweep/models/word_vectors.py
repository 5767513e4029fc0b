"""The mean of a sentence's word vectors: the study's baseline.

Text files are parsed here, not by gensim's loader, which gives no line number and spreads a row of one number over the
whole vector without a word; what is read becomes gensim's `KeyedVectors`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.word_overlap import split_words

ASSET = Path(__file__).parent.parent / "assets" / "word_vectors.safetensors"


if TYPE_CHECKING:
    from gensim.models import KeyedVectors


@dataclass(frozen=True)
class WordVectors:
    """Vectors of N words, D dimensions.

    Attributes:
        name: the file's name.
        kv: gensim's table, float32 [N, D].
        fingerprint: SHA-256 of the file.
        word_split: see `split_words`.
    """

    name: str
    kv: KeyedVectors
    fingerprint: str
    word_split: str

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Mean vector of each sentence, float32 [S, D].

        An unknown word counts as a zero vector (the study's way), so a sentence of unknown words only is all zeros.
        """
        means = np.zeros((len(sentences), self.kv.vector_size), dtype=np.float32)
        index = self.kv.key_to_index
        for row, sentence in enumerate(sentences):
            words = split_words(sentence, self.word_split)
            known = [index[word] for word in words if word in index]
            if known:
                means[row] = self.kv.vectors[known].sum(axis=0, dtype=np.float64) / len(words)
        return means

    def coverage(self, sentences: Sequence[str]) -> float:
        """Share of the words, counted as often as they occur, that have a vector; 0 where there are no words."""
        words = [word for sentence in sentences for word in split_words(sentence, self.word_split)]
        return sum(word in self.kv.key_to_index for word in words) / len(words) if words else 0.0


def load_word_vectors(path: str | None = None, word_split: str = "whitespace") -> WordVectors:
    """Read word vectors.

    Args:
        path: text in GloVe's format (`word v1 ... vD`, a line each) or word2vec's (the same after a line `N D`), or a
            `.safetensors` file like the packaged one: `vectors` [N, D] and `words`, UTF-8 bytes separated by line
            feeds. None takes the packaged file.
        word_split: how `encode` cuts sentences, see `split_words`.

    Raises:
        UserError: a file that is missing or malformed, with the first bad line.
    """
    split_words("", word_split)  # an unknown way to split fails here, not after the file has been read
    file = ASSET if path is None else Path(path).expanduser()
    try:
        data = file.read_bytes()
    except OSError as error:
        hint = "set word_vectors.path to vectors in GloVe format, or leave word_vectors out of baselines"
        what = f"the packaged word vectors {file}" if path is None else f"word_vectors.path={path}"
        raise UserError(f"{what} cannot be read ({error.strerror}): {hint}") from error
    words, vectors_ND = _from_safetensors(data, file) if file.suffix == ".safetensors" else _from_text(data, file)
    bad = np.flatnonzero(~np.isfinite(vectors_ND).all(axis=1))
    if bad.size:
        raise UserError(f"{file}: the vector of word {int(bad[0]) + 1}, {words[bad[0]]!r}, holds NaN or infinity")
    from gensim.models import KeyedVectors  # takes half a second, which checks of anything else need not wait for

    kv = KeyedVectors(vectors_ND.shape[1], dtype=np.float32)
    kv.add_vectors(words, vectors_ND)
    return WordVectors(file.name, kv, hashlib.sha256(data).hexdigest(), word_split)


def _from_text(data: bytes, file: Path) -> tuple[list[str], np.ndarray]:
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    header = _header(lines[0]) if lines else None
    first = 1 if header else 0
    if len(lines) == first:
        raise UserError(f"{file} holds no word vectors: each line must be a word and its numbers")
    if header and header[0] != len(lines) - first:
        raise UserError(f"{file}, line 1: it announces {header[0]} words, but {len(lines) - first} lines follow")
    dimensions = header[1] if header else len(lines[0].split()) - 1
    words, numbers = [], array("f")
    for number, line in enumerate(lines[first:], first + 1):
        word, values = _parse(line, dimensions, f"{file}, line {number}")
        words.append(word)
        numbers.extend(values)
    _require_distinct(words, file)
    return words, np.frombuffer(numbers, dtype=np.float32).reshape(len(words), dimensions)


def _header(line: bytes) -> tuple[int, int] | None:
    fields = line.split()
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(field.isdigit() for field in fields) else None


def _parse(line: bytes, dimensions: int, where: str) -> tuple[str, list[float]]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {line[error.start : error.start + 4]!r} is not UTF-8") from error
    # From the right: some of GloVe's words hold spaces.
    word, *fields = text.rstrip(" \r").rsplit(" ", dimensions)
    if dimensions < 1 or len(fields) != dimensions or not word:
        raise UserError(f"{where}: {text[:60]!r} is not a word and {max(dimensions, 1)} numbers")
    try:
        return word, [float(field) for field in fields]
    except ValueError as error:
        bad = next(field for field in fields if not _is_number(field))
        raise UserError(f"{where}: {bad!r} is not a number") from error


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _from_safetensors(data: bytes, file: Path) -> tuple[list[str], np.ndarray]:
    try:
        tensors = load_safetensors(data)
        words = tensors["words"].tobytes().decode("utf-8").split("\n")
        vectors_ND = tensors["vectors"].astype(np.float32)
    except (SafetensorError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a file of word vectors with tensors words and vectors: {error!r}") from error
    if vectors_ND.ndim != 2 or len(vectors_ND) != len(words):
        raise UserError(f"{file}: {len(words)} words, but vectors of shape {list(vectors_ND.shape)}")
    _require_distinct(words, file)
    return words, vectors_ND


def _require_distinct(words: list[str], file: Path) -> None:
    """gensim would drop a second vector of a word with only a log line."""
    seen: set[str] = set()
    for number, word in enumerate(words, 1):
        if word in seen:
            raise UserError(f"{file}: word {number}, {word!r}, has a vector already")
        seen.add(word)
