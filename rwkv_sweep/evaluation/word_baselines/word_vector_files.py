"""Files of word vectors as they are published: GloVe's and word2vec's text, word2vec's binary form, compressed or not.

Text is parsed here, not by gensim's loader, which gives no line number, spreads a row of one number over the whole
vector, and takes a first word with a space in it for a word and a number; nor is the binary form, in which that loader
leaves gaps where a word comes twice.

Shapes: N words, D dimensions.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np

from rwkv_sweep.data.text_lines import reason
from rwkv_sweep.errors import UserError, shown
from rwkv_sweep.evaluation.word_baselines.compressed_files import DAMAGED, decompressed

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_SAMPLE = 1 << 16
"""Bytes from which a file's kind is recognized."""
_MOST_DIGITS = 19
"""Of a number in a header: beyond it, no machine counts so far."""
_BLOCK = 1 << 22
"""Bytes of the binary form that are read at a time."""
_FIRST_LINES = 64
"""Lines from which the number of dimensions is inferred where no header states it."""
_VALID = (
    "valid is GloVe's or word2vec's text, word2vec's binary form (each also .gz, .bz2, .xz, or alone in a .zip), or "
    ".safetensors"
)
_OTHER_KINDS = {
    b"\x80": "a pickle, such as gensim's .kv, which may run code when it is read: save it by "
    "save_word2vec_format(path, binary=True)",
    b"\xba\x16\x4f\x2f": "a model in fastText's own binary form: take the .vec file beside it",
    b"\x93NUMPY": "a NumPy array without words",
    b"version https://git-lfs": "a pointer of Git LFS in place of the file: fetch it by git lfs pull",
    b"PK\x03\x04": "an archive within an archive: unpack it",
}


@dataclass(frozen=True)
class Table:
    """Words with their vectors.

    Attributes:
        words: N distinct ones, in the file's order.
        vectors_ND: float32 [N, D].
        repeated: how many further vectors of a word were left out, as the first one counts.
        example: a word that is repeated; empty where none is.
    """

    words: list[str]
    vectors_ND: np.ndarray
    repeated: int = 0
    example: str = ""


class _Words:
    """Words in their order, each once."""

    def __init__(self) -> None:
        self._words: dict[str, None] = {}
        self._repeated, self._example = 0, ""

    def __len__(self) -> int:
        return len(self._words)

    def add(self, word: str) -> bool:
        """Whether the word is new, so that its vector counts."""
        if word in self._words:
            self._repeated, self._example = self._repeated + 1, self._example or word
            return False
        self._words[word] = None
        return True

    def table(self, numbers: np.ndarray, dimensions: int) -> Table:
        return Table(list(self._words), numbers.reshape(len(self), dimensions), self._repeated, self._example)


def read_table(file: Path) -> Table:
    """Read a file of word vectors; its content says the kind, not its name.

    Raises:
        UserError: what is no such file, or a malformed one, with the first bad line.
        OSError: it cannot be opened.
    """
    with file.open("rb"):  # what cannot be opened is not the content's fault
        pass
    try:
        with decompressed(file) as stream:
            sample = stream.read(_SAMPLE)
        for start, kind in _OTHER_KINDS.items():
            if sample.startswith(start):
                raise UserError(f"{file} is {kind}; {_VALID}")
        header = _header(sample.partition(b"\n")[0])
        if header is not None and header[1] < 1:
            raise UserError(f"{file}, line 1: it announces vectors of {header[1]} numbers")
        if _is_binary(sample):
            with decompressed(file) as stream:
                return _from_binary(stream, file)
        with decompressed(file) as stream:
            return _from_text(stream, file)
    except DAMAGED as error:
        raise UserError(f"{file} cannot be read ({reason(error)}); {_VALID}") from error


def _header(line: bytes) -> tuple[int, int] | None:
    """Numbers of words and dimensions that a line announces; None where it is no header."""
    fields = line.removeprefix(_BOM).split()
    digits = len(fields) == 2 and all(field.isdigit() and len(field) < _MOST_DIGITS for field in fields)
    return (int(fields[0]), int(fields[1])) if digits else None


def _is_binary(sample: bytes) -> bool:
    """Whether a header is followed by control characters, as floats hold some and text none."""
    line, _, rest = sample.partition(b"\n")
    return _header(line) is not None and any(
        byte < 32 and byte not in b"\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f" for byte in rest
    )


def _from_binary(stream: IO[bytes], file: Path) -> Table:
    header = _header(stream.readline())
    assert header is not None
    count, dimensions = header
    words, numbers = _Words(), bytearray()
    buffer, place = b"", 0
    for number in range(1, count + 1):
        while (space := buffer.find(b" ", place)) < 0 or len(buffer) < space + 1 + 4 * dimensions:
            more = stream.read(_BLOCK)
            if not more:
                raise UserError(f"{file} ends in word {number} of the {count} that it announces: fetch it again")
            buffer, place = buffer[place:] + more, 0
        word = buffer[place:space].lstrip(b"\n")
        place = space + 1 + 4 * dimensions
        try:
            new = words.add(word.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: word {number}, {shown(word)}, is not UTF-8") from error
        if new:
            numbers += buffer[space + 1 : place]
    if not len(words):
        raise UserError(f"{file} holds no word vectors")
    return words.table(np.frombuffer(numbers, dtype="<f4").astype(np.float32, copy=False), dimensions)


def _from_text(lines: Iterable[bytes], file: Path) -> Table:
    source = iter(lines)
    first_lines = list(islice(source, _FIRST_LINES))
    if first_lines:
        first_lines[0] = first_lines[0].removeprefix(_BOM)
    header = _header(first_lines[0]) if first_lines else None
    first = 1 if header else 0
    dimensions = header[1] if header else _dimensions(first_lines)
    words, numbers = _Words(), array("f")
    blank = count = 0
    for number, line in enumerate(chain(first_lines[first:], source), first + 1):
        if not line.strip(_BLANKS):
            blank = blank or number
            continue
        # Blank lines at the end of a file mean nothing; within it a word or a file may be missing.
        word, values = _parse(b"" if blank else line, dimensions, f"{file}, line {blank or number}")
        count += 1
        if words.add(word):
            numbers.extend(values)
    if not len(words):
        raise UserError(f"{file} holds no word vectors: each line must be a word and its numbers")
    if header and header[0] != count:
        raise UserError(f"{file}, line 1: it announces {header[0]} words, but {count} lines follow")
    return words.table(np.frombuffer(numbers, dtype=np.float32), dimensions)


def _dimensions(lines: list[bytes]) -> int:
    """How many numbers end most lines: a word may hold spaces, and numbers of its own behind them (`at 1`)."""
    counts = Counter(_numbers_at_end(line) for line in lines if line.strip(_BLANKS))
    return counts.most_common(1)[0][0] if counts else 0


def _numbers_at_end(line: bytes) -> int:
    fields = line.split()
    count = 0
    while count < len(fields) - 1 and _is_number(fields[-1 - count]):
        count += 1
    return count


def _parse(line: bytes, dimensions: int, where: str) -> tuple[str, list[float]]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {line[error.start : error.start + 4]!r} is not UTF-8") from error
    # From the right: some of GloVe's words hold spaces. Only blanks and tabs separate, as words hold the others.
    word, *fields = text.rstrip(" \t\r\n").replace("\t", " ").rsplit(" ", dimensions)
    if dimensions < 1 or len(fields) != dimensions or not word:
        raise UserError(f"{where}: {text.rstrip()[:60]!r} is not a word and {max(dimensions, 1)} numbers")
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        bad = next(field for field in fields if not _is_number(field))
        raise UserError(f"{where}: {shown(bad)} is not a number") from error
    numbers = text[len(word) :]
    if "_" in numbers or not numbers.isascii():  # Python reads 1_0 as 10, and digits of any script
        raise UserError(f"{where}: {shown(numbers.strip())} are not {dimensions} numbers")
    return word, values


def _is_number(field: str | bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
