"""Damaged and made-up files of word vectors by the hundred: a clear error in one line or a sound table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rwkv_sweep.evaluation.word_baselines.word_vectors import load_word_vectors
from tests.faults.fuzzing import CELL, ODD_NUMBERS, damaged, one_line_or, quietly


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vectors.txt", content)
    return file.getvalue()


PACKS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress, zipped]
ROWS = [("cat", 1.0, 2.0), ("new york", 3.0, -4.5), ("cat", 0.0, 1.0), ("\u4e00", 1e30, 1e-30)]
TEXT = "".join(f"{word} {x} {y}\n" for word, x, y in ROWS).encode()
BINARY = b"4 2\n" + b"".join(
    word.replace(" ", "_").encode() + b" " + np.array(row, np.float32).tobytes() + b"\n" for word, *row in ROWS
)


def check_table(path: Path) -> None:
    vectors = one_line_or(lambda: load_word_vectors(str(path)))
    if vectors is None:
        return
    words = vectors.kv.index_to_key
    assert words and len(set(words)) == len(words) and all(isinstance(word, str) for word in words)
    assert vectors.kv.vectors.shape == (len(words), vectors.kv.vector_size) and vectors.kv.vector_size >= 1
    assert np.isfinite(vectors.kv.vectors).all()
    assert vectors.encode([" ".join(words[:3]), ""]).shape == (2, vectors.kv.vector_size)


@quietly
@given(content=st.binary(max_size=200), pack=st.sampled_from(PACKS))
def test_any_bytes_as_word_vectors(tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(pack(content))
    check_table(path)


@quietly
@given(data=st.data(), content=st.sampled_from([TEXT, b"4 2\n" + TEXT, BINARY]), pack=st.sampled_from(PACKS))
def test_damaged_word_vectors(
    tmp_path: Path, data: st.DataObject, content: bytes, pack: Callable[[bytes], bytes]
) -> None:
    """Before or after they were packed."""
    path = tmp_path / "vectors.txt"
    inside = data.draw(st.booleans(), "inside")
    path.write_bytes(pack(damaged(content, data)) if inside else damaged(pack(content), data))
    check_table(path)


@quietly
@given(
    header=st.sampled_from(
        [
            "",
            "2 2\n",
            "0 0\n",
            "2 0\n",
            "1_0 2\n",
            "9" * 5000 + " 2\n",
            "9" * 18 + " " + "9" * 18 + "\n",
            "\ufeff",
            "\ufeff2 2\r\n",
        ]
    ),
    rows=st.lists(
        st.tuples(
            CELL, st.lists(st.one_of(st.sampled_from(["1", "-0.5", "1e-3"]), st.sampled_from(ODD_NUMBERS)), max_size=3)
        ),
        max_size=5,
    ),
    separator=st.sampled_from([" ", "\t", "  "]),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
def test_any_rows_as_word_vectors(
    tmp_path: Path, header: str, rows: list[tuple[str, list[str]]], separator: str, end: str
) -> None:
    path = tmp_path / "vectors.txt"
    text = header + "".join(separator.join([word, *numbers]) + end for word, numbers in rows)
    path.write_text(text, encoding="utf-8", newline="")
    check_table(path)
