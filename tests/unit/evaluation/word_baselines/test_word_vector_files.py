"""Word vectors in the forms in which they are published: all forms of one table read the same."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.word_baselines.word_vectors import WordVectors, load_word_vectors
from rwkv_sweep.utils.console import log_line_once

WORDS = ["new york", "cat", ". . .", "at 1", "2", "\u4e00", "na\u00efve", "\u00a0", "a\x85b", "\u2028", "in_a_word"]
VECTORS_ND = np.random.default_rng(0).normal(size=(len(WORDS), 7)).astype(np.float32)


def text(separator: str = " ", end: str = "\n") -> bytes:
    rows = [separator.join([word, *map(repr, row.tolist())]) for word, row in zip(WORDS, VECTORS_ND, strict=True)]
    return "".join(row + end for row in rows).encode()


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def read(path: Path, content: bytes) -> WordVectors:
    path.write_bytes(content)
    return load_word_vectors(str(path))


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_word_vectors(str(path))
    wording = str(caught.value)
    assert "\n" not in wording and len(wording) < 600
    return wording.replace(str(path), "FILE")


def check(vectors: WordVectors, note: bool = False) -> None:
    assert vectors.kv.index_to_key == WORDS and bool(vectors.note) == note
    np.testing.assert_array_equal(vectors.kv.vectors, VECTORS_ND)


@pytest.mark.parametrize(
    "head", [b"", b"11 7\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf11 7 \r\n"], ids=["", "head", "bom", "both"]
)
@pytest.mark.parametrize(("separator", "end"), [(" ", "\n"), ("\t", "\n"), (" ", " \r\n"), (" ", "\t\n")])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n \n\t\n\n"])
def test_text(tmp_path: Path, head: bytes, separator: str, end: str, tail: bytes) -> None:
    check(read(tmp_path / "v.txt", head + text(separator, end) + tail))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_compressed_text_whatever_its_name(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    check(read(tmp_path / "v.txt", pack(text())))
    check(read(tmp_path / "v", pack(b"11 7\n" + text("\t"))))


def test_an_archive_of_one_file(tmp_path: Path) -> None:
    check(load_word_vectors(str(zipped(tmp_path / "v.zip", **{"folder/v.50d.txt": text(), "__MACOSX/._v": b"x"}))))
    wording = message(zipped(tmp_path / "glove.6B.zip", **{f"glove.6B.{d}d.txt": text() for d in (50, 100, 200)}))
    assert wording == (
        "FILE holds 3 files (glove.6B.50d.txt, glove.6B.100d.txt, glove.6B.200d.txt): unpack it and set "
        "word_vectors.path to one of them"
    )
    assert "holds 0 files" in message(zipped(tmp_path / "empty.zip"))


@pytest.mark.parametrize("name", ["v.bin", "v.bin.gz", "v.txt", "v.txt.bz2"])
def test_what_gensim_writes(tmp_path: Path, name: str) -> None:
    """Its binary form separates words by one space, so words with spaces are left out here."""
    kv = KeyedVectors(7, dtype=np.float32)
    kept = [row for row, word in enumerate(WORDS) if not any(letter.isspace() for letter in word)]
    kv.add_vectors([WORDS[row] for row in kept], VECTORS_ND[kept])
    path = tmp_path / name
    kv.save_word2vec_format(str(path), binary=".bin" in name)
    vectors = load_word_vectors(str(path))
    assert vectors.kv.index_to_key == kv.index_to_key and not vectors.note
    np.testing.assert_array_equal(vectors.kv.vectors, kv.vectors)
    if not name.endswith((".gz", ".bz2")):
        content = path.read_bytes()
        cuts = (len(content) // 2, len(content) - 3) if name == "v.bin" else (len(content) // 2,)
        for cut in cuts:
            path.write_bytes(content[:cut])
            assert message(path).startswith("FILE")
        path.write_bytes(content.replace(b" 7\n", b"99999999999 7\n", 1))
        assert "99999999999" in message(path)


@pytest.mark.parametrize("words", [2, 100_000])
def test_binary_in_an_archive(tmp_path: Path, words: int) -> None:
    """More than is read at a time, too; floats that look like spaces and line ends are floats."""
    vectors_ND = np.random.default_rng(1).normal(size=(words, 20)).astype(np.float32)
    vectors_ND[:, 3] = np.frombuffer(b" \n \n", np.float32)
    rows = [f"word{number}".encode() + b" " + row.tobytes() + b"\n" for number, row in enumerate(vectors_ND)]
    content = f"{words} 20\n".encode() + b"".join(rows)
    vectors = load_word_vectors(str(zipped(tmp_path / "v.zip", **{"v.bin": content})))
    np.testing.assert_array_equal(vectors.kv.vectors, vectors_ND)
    assert vectors.kv.index_to_key[-1] == f"word{words - 1}"


@pytest.mark.parametrize("form", ["text", "head", "safetensors", "bin"])
def test_the_first_vector_of_a_word_counts(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """GloVe 840B has words twice; so has whatever was joined from parts."""
    path = tmp_path / "v.txt"
    rows = [("a", 1, 2), ("b", 3, 4), ("a", 5, 6), ("c", 7, 8), ("b", 9, 10)]
    if form == "safetensors":
        from safetensors.numpy import save_file

        path = path.with_suffix(".safetensors")
        words = np.frombuffer("\n".join(word for word, *_ in rows).encode(), np.uint8)
        save_file({"vectors": np.array([row[1:] for row in rows], np.float16), "words": words}, path)
    elif form == "bin":
        floats = [word.encode() + b" " + np.array(row, np.float32).tobytes() + b"\n" for word, *row in rows]
        path.write_bytes(b"5 2\n" + b"".join(floats))
    else:
        lines = "".join(f"{word} {x} {y}\n" for word, x, y in rows)
        path.write_text(("5 2\n" if form == "head" else "") + lines)
    vectors = load_word_vectors(str(path))
    assert vectors.kv.index_to_key == ["a", "b", "c"]
    assert vectors.kv.vectors.tolist() == [[1, 2], [3, 4], [7, 8]]
    assert vectors.note.startswith("2 more vectors of words that have one already, such as 'a', were left out")
    log_line_once(f"{path}: {vectors.note}")
    log_line_once(f"{path}: {vectors.note}")
    assert capsys.readouterr().err.count(str(path)) == 1


class Harmful:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (pytest.fail, ("the pickle was loaded",))


@pytest.mark.parametrize(
    ("content", "wording"),
    [
        (pickle.dumps(Harmful(), protocol=2), "FILE is a pickle, such as gensim's .kv, which may run code when it is "),
        (pickle.dumps({}, protocol=4), "FILE is a pickle"),
        (b"\xba\x16\x4f\x2f" + b"\x00" * 50, "FILE is a model in fastText's own binary form: take the .vec file"),
        (b"\x93NUMPY\x01\x00", "FILE is a NumPy array without words"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "FILE is a pointer of Git LFS"),
        (gzip.compress(text(), mtime=0)[:60], "FILE cannot be read (EOFError"),
        (gzip.compress(text(), mtime=0)[:-8] + b"x" * 8, "FILE cannot be read (BadGzipFile"),
        (b"PK\x03\x04" + b"x" * 100, "FILE cannot be read (BadZipFile"),
        (b"\xfd7zXZ\x00" + b"x" * 100, "FILE cannot be read (LZMAError"),
        (b"BZh9" + b"x" * 100, "FILE cannot be read (OSError"),
        (b"{}", "FILE, line 1: '{}' is not a word and 1 numbers"),
        (b"3 2\nword \x00\x00\x00", "FILE ends in word 1 of the 3 that it announces"),
        ("cat 1 2\n".encode("utf-16"), "FILE, line 1: b'\\xff\\xfec\\x00' is not UTF-8"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, wording: str) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    actual = message(path)
    assert actual.startswith(wording)
    assert actual.endswith(".safetensors") == ("valid is" in actual)


def test_most_lines_say_how_many_numbers_there_are(tmp_path: Path) -> None:
    """A first word that ends in a number must not make all others too short."""
    vectors = read(tmp_path / "v.txt", b"at 1 0.5 0.25\ncat 1 2\ndog 3 4\n")
    assert vectors.kv.index_to_key == ["at 1", "cat", "dog"] and vectors.kv.vectors[0].tolist() == [0.5, 0.25]
    assert "line 2: 'cat 1' is not a word and 2 numbers" in message(
        zipped(tmp_path / "v.zip", **{"v.txt": b"at 1 2\ncat 1\n"})
    )
