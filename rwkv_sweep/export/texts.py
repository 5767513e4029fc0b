"""The texts of a file, one at a time: a line each, or one column of records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rwkv_sweep.config.path_values import existing_file
from rwkv_sweep.data.readers import SUFFIXES, read_records, split_suffix
from rwkv_sweep.data.text_lines import GZIP, text_lines
from rwkv_sweep.errors import UserError, shown

LINES = ".txt"
DEFAULT_COLUMN = "text"
VALID = f"a file of texts: {LINES} with one text a line, {', '.join(SUFFIXES)}; all but the last also with {GZIP}"


@dataclass(frozen=True)
class Scan:
    """What a first pass over the texts gives. digest: SHA-256 of all of them, in order."""

    count: int
    digest: str


def is_text_file(path: Path) -> bool:
    """Whether a file's name says that it holds texts."""
    name = path.name.lower().removesuffix(GZIP)
    return path.is_file() and (name.endswith(LINES) or bool(split_suffix(path)[1]))


class TextFile:
    """The texts of a file, which may be larger than the memory (but for a list in `.json`)."""

    def __init__(self, path: Path, column: str | None) -> None:
        """column: None takes `text`, or the only one that there is.

        Raises:
            UserError: no such file, a format that is not known, or no such column.
        """
        self.path = existing_file("TEXTS", path, VALID)
        name = path.name.lower().removesuffix(GZIP)
        self._lines = name.endswith(LINES)
        if not self._lines and not split_suffix(path)[1]:
            raise UserError(f"TEXTS={path} is of an unknown format: valid is {VALID}")
        if self._lines and column is not None:
            raise UserError(f"--column={column} with {path}: a text file has no columns, each line is a text")
        self._column = "" if self._lines else self._chosen(column)

    def scan(self, empty: bool) -> Scan:
        """Read and check all texts. empty: whether an empty one is valid.

        Raises:
            UserError: a row that cannot be read, that holds no text, or an empty one; or no text at all.
        """
        digest, count = hashlib.sha256(), 0
        for place, text in self._texts():
            if not text and not empty:
                raise UserError(
                    f"{self.path}, {place}: the text is empty: valid is a text, or --on-empty zero for zeros"
                )
            try:
                data = text.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{self.path}, {place}: {shown(text)} is not valid Unicode") from error
            digest.update(len(data).to_bytes(8, "little") + data)
            count += 1
        if not count:
            raise UserError(f"{self.path} holds no text: valid is {VALID}")
        return Scan(count, digest.hexdigest())

    def parts(self, rows: int) -> Iterator[list[str]]:
        """So many texts at a time, the last time fewer."""
        texts = (text for _, text in self._texts())
        while part := list(islice(texts, rows)):
            yield part

    def _texts(self) -> Iterator[tuple[str, str]]:
        """Each text after its place."""
        if self._lines:
            yield from ((f"line {n}", line.rstrip("\r\n")) for n, line in enumerate(text_lines(self.path), 1))
            return
        for place, record in read_records(self.path, [self._column]):
            if self._column not in record:
                raise UserError(
                    f"{self.path}, {place}: there is no {self._column}, but {', '.join(record) or 'nothing'}"
                )
            text = record[self._column]
            if not isinstance(text, str):
                raise UserError(f"{self.path}, {place}: {self._column} is {shown(text)}, not a text")
            yield place, text

    def _chosen(self, column: str | None) -> str:
        """Raises UserError where the first record lacks the column."""
        first = next(read_records(self.path, [column or DEFAULT_COLUMN]), None)
        names = [] if first is None else list(first[1])
        if column is None and DEFAULT_COLUMN not in names and len(names) == 1:
            return names[0]
        wanted = column or DEFAULT_COLUMN
        if names and wanted not in names:
            raise UserError(f"--column={wanted}: {self.path} has no such column, there are {', '.join(names)}")
        return wanted
