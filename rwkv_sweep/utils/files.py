"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def unfinished_name(name: str, random: str) -> str:
    """Name of the file that is written before it takes the place of `name`. random: eight hex digits."""
    return f".{name}.{random}.unfinished"


def write_atomically(path: Path, text: str) -> None:
    """Write through a temporary file in the same folder, so that no reader ever sees half a file, nor the system's
    crash leaves one: the content is on the disk before the name is. Permissions are those of any new file (umask).

    Raises:
        OSError: it cannot be written; names `path`, and what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(unfinished_name(path.name, secrets.token_hex(4)))
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a write that fails names no file by itself
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
