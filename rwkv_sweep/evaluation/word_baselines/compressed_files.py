"""Files that may be compressed, as word vectors are published."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from rwkv_sweep.errors import UserError

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)
"""What reading a damaged or encrypted file raises."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""How an archive starts, and an empty one."""


@contextlib.contextmanager
def decompressed(file: Path) -> Iterator[IO[bytes]]:
    """The content of a file that may be compressed, or the one file in an archive; its first bytes say which.

    Raises:
        UserError: an archive of several files, or of none.
        one of `DAMAGED`: here or while the content is read.
    """
    with file.open("rb") as raw:
        magic = raw.read(6)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    if magic.startswith(_ZIP):
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, file)) as stream:
            yield stream
        return
    opener = next((opener for start, opener in openers.items() if magic.startswith(start)), open)
    with opener(file, "rb") as stream:
        yield cast(IO[bytes], stream)


def _only_member(archive: zipfile.ZipFile, file: Path) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(names) == 1:
        return names[0]
    listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    raise UserError(f"{file} holds {len(names)} files ({listed}): unpack it and set word_vectors.path to one of them")
