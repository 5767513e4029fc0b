"""The mean of a sentence's word vectors: the study's baseline. What is read becomes gensim's `KeyedVectors`.

Shapes: N words, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from rwkv_sweep.config.path_values import existing_file
from rwkv_sweep.errors import UserError, shown
from rwkv_sweep.evaluation.word_baselines.word_overlap import split_words
from rwkv_sweep.evaluation.word_baselines.word_vector_files import Table, read_table
from rwkv_sweep.utils.files import file_sha256
from rwkv_sweep.utils.package_paths import ASSETS

ASSET = ASSETS / "word_vectors.safetensors"
VALID = "a file of vectors in GloVe's format, or none: leave word_vectors out of baselines"


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
        note: what a reader should know of the file; empty where there is nothing.
    """

    name: str
    kv: KeyedVectors
    fingerprint: str
    word_split: str
    note: str = ""

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


def load_word_vectors(path: str | None = None, word_split: str = "whitespace") -> WordVectors:
    """Read word vectors.

    Args:
        path: text in GloVe's format (`word v1 ... vD`, a line each) or word2vec's (the same after a line `N D`),
            word2vec's binary form, any of these compressed, or a `.safetensors` file like the packaged one: `vectors`
            [N, D] and `words`, UTF-8 bytes separated by line feeds. None takes the packaged file. Of a word that has
            several vectors, as in GloVe 840B, the first one counts.
        word_split: how `encode` cuts sentences, see `split_words`.

    Raises:
        UserError: a file that is missing or malformed, with the first bad line.
    """
    split_words("", word_split)  # an unknown way to split fails here, not after the file has been read
    file = ASSET if path is None else existing_file("word_vectors.path", path, VALID)
    try:
        table = _from_safetensors(file.read_bytes(), file) if file.suffix == ".safetensors" else read_table(file)
        fingerprint = file_sha256(file)
    except OSError as error:
        hint = "set word_vectors.path to vectors in GloVe format, or leave word_vectors out of baselines"
        what = f"the packaged word vectors {file}" if path is None else f"word_vectors.path={path}"
        raise UserError(f"{what} cannot be read ({error.strerror}): {hint}") from error
    bad = np.flatnonzero(~np.isfinite(table.vectors_ND).all(axis=1))
    if bad.size:
        word = table.words[bad[0]]
        raise UserError(f"{file}: the vector of word {int(bad[0]) + 1}, {shown(word)}, holds NaN or infinity")
    from gensim.models import KeyedVectors  # takes half a second, which checks of anything else need not wait for

    kv = KeyedVectors(table.vectors_ND.shape[1], dtype=np.float32)
    kv.add_vectors(table.words, table.vectors_ND)
    note = ""
    if table.repeated:
        note = (
            f"{table.repeated} more vectors of words that have one already, such as {shown(table.example)}, were left "
            "out: the first counts"
        )
    return WordVectors(file.name, kv, fingerprint, word_split, note)


def _from_safetensors(data: bytes, file: Path) -> Table:
    try:
        tensors = load_safetensors(data)
        words = tensors["words"].tobytes().decode("utf-8").split("\n")
        vectors_ND = tensors["vectors"].astype(np.float32)
    except (SafetensorError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a file of word vectors with tensors words and vectors: {error!r}") from error
    if vectors_ND.ndim != 2 or len(vectors_ND) != len(words):
        raise UserError(f"{file}: {len(words)} words, but vectors of shape {list(vectors_ND.shape)}")
    return _distinct(words, vectors_ND)


def _distinct(words: list[str], vectors_ND: np.ndarray) -> Table:
    """The first vector of each word."""
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    rows = sorted(first.values())
    if len(rows) == len(words):
        return Table(words, vectors_ND)
    example = next(word for row, word in enumerate(words) if first[word] != row)
    return Table([words[row] for row in rows], vectors_ND[rows], len(words) - len(rows), example)
