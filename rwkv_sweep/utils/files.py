"""Files written whole or not at all, and what tells one content of a file from another."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
from pathlib import Path


def unfinished_name(name: str, random: str) -> str:
    """Name of the file that is written before it takes the place of `name`. random: eight hex digits."""
    return f".{name}.{random}.unfinished"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write through a temporary file in the same folder, so that no reader ever sees half a file, nor the system's
    crash leaves one: the content is on the disk before the name is. Permissions are those of any new file (umask).

    Raises:
        OSError: it cannot be written; names `path`, and what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(unfinished_name(path.name, secrets.token_hex(4)))
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a write that fails names no file by itself
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits; read in blocks, into one buffer.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def unchanged_file_sha256(path: Path) -> str:
    """As `file_sha256`, read once in this process as long as the file's size and time stay: a sweep asks for the digest
    of big weights in each of its jobs."""
    return _kept_sha256(path, file_stamp(path))


@functools.lru_cache(maxsize=64)
def _kept_sha256(path: Path, stamp: object) -> str:
    return file_sha256(path)


def file_stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size in bytes and time of change in nanoseconds of a file, or of each file right in a folder; empty where
    there is none. A file that is written anew gets another stamp."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = ((file.name, file.stat()) for file in files if file.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
