"""Pooled vectors on disk, by content: what one run has computed no later run computes again.

An entry is `<key>.npy` and, written last, `<key>.json` with its SHA-256 and what it is of. The key is a digest of all
that decides the numbers, the source code that computes them included. Least recently used entries go first.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rwkv_sweep.errors import first_line
from rwkv_sweep.utils.console import log_line, log_line_once
from rwkv_sweep.utils.files import file_sha256, write_atomically
from rwkv_sweep.utils.shared_files import follow_folder, shared_lock
from rwkv_sweep.utils.source_digest import source_digest

GIB = 2**30
DECIDING = ("embedding", "models", "ops")
"""Packages whose change makes stored vectors stale."""
KEY = re.compile("[0-9a-f]{32}")
"""What names an entry; other files in the folder are not ours."""


@dataclass(frozen=True)
class CacheEntry:
    """One stored array: its key, size in bytes on disk, time of last use (seconds), and what it is of."""

    key: str
    size: int
    used: float
    about: dict[str, Any]


def content_key(**parts: Any) -> str:
    """32 hex digits over these parts and the source code."""
    text = json.dumps({**parts, "code": vectors_code_digest()}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def vectors_code_digest() -> str:
    """Digest of the sources that `DECIDING` names."""
    return source_digest(*DECIDING)


class EmbeddingStore:
    """A folder of arrays, bounded in size; safe for several processes and users.

    It is a cache: where it cannot be read or written, that is said once in a process, `failure` says why, and the
    caller computes what it needs.
    """

    def __init__(self, root: Path, max_gib: float) -> None:
        self._root, self._max_bytes = root, int(max_gib * GIB)
        self._verified: set[str] = set()
        self._trouble = _trouble(root)

    @property
    def failure(self) -> str | None:
        """Why this folder is not used as it should be, in a few words; None where it is."""
        return self._trouble.reason

    def can_be_written(self) -> bool:
        """Whether new entries would be kept, as far as can be known beforehand."""
        if self._trouble.reading_only:
            return False
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if not os.access(self._root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except (OSError, ValueError) as error:
            self._trouble.report(self._root, "written", error)
            return False
        return True

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold while computing an entry, so that no other process computes it too. Without a lock to be had, go on."""
        with contextlib.ExitStack() as stack:
            if self.can_be_written():
                try:
                    stack.enter_context(shared_lock(self._root / f"{key}.lock"))
                except OSError as error:
                    log_line_once(f"store.path={self._root}: entries are used without locks ({_reason(error)})")
            yield

    def get(self, key: str) -> np.ndarray | None:
        """The array, memory-mapped and read-only; None if it is not there, or damaged (which is said, and removed)."""
        data, about = self._paths(key)
        try:
            record = json.loads(about.read_bytes())
            if key not in self._verified and file_sha256(data) != record["sha256"]:
                raise ValueError("its SHA-256 is another")
            array = np.load(data, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._trouble.report(self._root, "read", error)
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log_line(f"stored vectors {data.name} are damaged ({error}): they are computed again")
            self._remove(key)
            return None
        self._verified.add(key)
        with contextlib.suppress(OSError):  # another user's: only its owner can say that it was used
            os.utime(about)
        return array

    def put(self, key: str, array: np.ndarray, about: dict[str, Any]) -> bool:
        """Keep an array, then remove the least recently used beyond the size allowed (never this one); False where it
        could not be kept."""
        if not self.can_be_written():
            return False
        data, record = self._paths(key)
        try:
            digest = self._write(data, array)
            write_atomically(
                record, json.dumps({"sha256": digest, "shape": array.shape, "about": about}, indent=1) + "\n"
            )
        except OSError as error:
            self._trouble.report(self._root, "written", error)
            return False
        follow_folder(record)
        self._verified.discard(key)
        self.prune(self._max_bytes, keep=key)
        return True

    def entries(self) -> list[CacheEntry]:
        """All entries, the most recently used first; whatever else lies in the folder is none."""
        entries = []
        with contextlib.suppress(OSError):
            for record in self._root.glob("*.json"):
                if (entry := _entry(record)) is not None:
                    entries.append(entry)
        return sorted(entries, key=lambda entry: -entry.used)

    def prune(self, max_bytes: int, keep: str | None = None) -> int:
        """Remove the least recently used entries until `max_bytes` are left; returns the bytes removed."""
        entries = self.entries()
        excess = sum(entry.size for entry in entries) - max_bytes
        removed = 0
        for entry in reversed(entries):
            if removed >= excess:
                break
            if entry.key != keep and self._remove(entry.key):
                removed += entry.size
        return removed

    def _write(self, data: Path, array: np.ndarray) -> str:
        """Write an array whole or not at all; returns its SHA-256."""
        handle, temporary = tempfile.mkstemp(dir=self._root, prefix=f".{data.stem}.", suffix=".npy")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
            digest = file_sha256(Path(temporary))
            follow_folder(Path(temporary))
            os.replace(temporary, data)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return digest

    def _remove(self, key: str) -> bool:
        """Whether an entry could be removed: another user's may not be ours to remove."""
        self._verified.discard(key)
        try:
            for path in reversed(self._paths(key)):
                path.unlink(missing_ok=True)
        except OSError as error:
            log_line_once(f"store.path={self._root}: not all entries can be removed ({_reason(error)})")
            return False
        return True

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self._root / f"{key}.npy", self._root / f"{key}.json"


@dataclass
class _Trouble:
    """What went wrong with a folder in this process. reading_only: nothing more is tried to be written."""

    reason: str | None = None
    reading_only: bool = False

    def report(self, root: Path, what: str, error: Exception) -> None:
        self.reading_only |= what == "written"
        self.reason = self.reason or f"it cannot be {what}: {_reason(error)}"
        log_line_once(f"store.path={root} cannot be {what} ({_reason(error)}): what it would hold is computed")


@functools.cache
def _trouble(root: Path) -> _Trouble:
    """One for each folder of a process: the jobs of a sweep share it."""
    return _Trouble()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):  # NumPy's own says how many numbers went to the disk
        return error.strerror or f"the disk is full, or files may not grow so large: {error}"
    return first_line(error)


def _entry(record: Path) -> CacheEntry | None:
    """The entry that a JSON file describes; None where it is none, or is being removed by another process."""
    if not KEY.fullmatch(record.stem):
        return None
    try:
        about = json.loads(record.read_bytes())["about"]
        if not isinstance(about, dict):
            return None
        return CacheEntry(record.stem, record.with_suffix(".npy").stat().st_size, record.stat().st_mtime, about)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
