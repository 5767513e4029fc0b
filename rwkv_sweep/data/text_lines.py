"""The lines of a UTF-8 text file, plain or compressed by gzip."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rwkv_sweep.errors import UserError, first_line

GZIP = ".gz"


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, with or without a byte order mark.

    Lines end in LF or CR LF; in CR alone where the file holds no LF. Other separators that Unicode knows (U+2028
    and the like) are text. A file whose name ends in `.gz` is decompressed.

    Raises:
        UserError: (while iterating) a file that cannot be read, or a line that is not UTF-8.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(f"{path}, line {number}: {_not_utf8(line, error)}") from error
                if number == 1 and not text.endswith("\n") and "\r" in text:
                    yield from _ended_by_cr(text)
                else:
                    yield text
    except (OSError, EOFError, zlib.error) as error:
        where = f"{path}, line {number + 1}:" if number else str(path)
        raise UserError(f"{where} cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Why a file could not be read, in the system's words where it has any."""
    return getattr(error, "strerror", None) or first_line(error)


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.suffix.lower() == GZIP:
        return gzip.open(path, "rb")
    return path.open("rb")


def _ended_by_cr(text: str) -> Iterator[str]:
    *ended, last = text.split("\r")
    yield from (line + "\r" for line in ended)
    if last:
        yield last


def _not_utf8(line: bytes, error: UnicodeDecodeError) -> str:
    hint = " (it looks like UTF-16)" if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""
    return f"{line[error.start : error.start + 4]!r} is not UTF-8, which the file must be in{hint}"
