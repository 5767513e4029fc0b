"""Pooled vectors on disk, by content: what one run has computed no later run computes again.

An entry is `<key>.npy` and, written last, `<key>.json` with its SHA-256 and what it is of. The key is a digest of all
that decides the numbers, the source code that computes them included. Least recently used entries go first.

    python -m rwkv_sweep.store list [--path FOLDER]
    python -m rwkv_sweep.store prune --max-gib 1 [--path FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from rwkv_sweep.results import write_atomically
from rwkv_sweep.terminal import say

GIB = 2**30
CODE = ("models/**/*.py", "pooling.py", "prompt.py", "extract.py")
"""Sources whose change makes stored vectors stale."""


@dataclass(frozen=True)
class Entry:
    """One stored array: its key, size in bytes on disk, time of last use (seconds), and what it is of."""

    key: str
    size: int
    used: float
    about: dict[str, Any]


def content_key(**parts: Any) -> str:
    """32 hex digits over these parts and the source code."""
    text = json.dumps({**parts, "code": code_digest()}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def code_digest() -> str:
    """Digest of the sources named in `CODE`."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(path for pattern in CODE for path in package.glob(pattern)):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class EmbeddingStore:
    """A folder of arrays, bounded in size; safe for several processes."""

    def __init__(self, root: Path, max_gib: float) -> None:
        self._root, self._max_bytes = root, int(max_gib * GIB)
        self._verified: set[str] = set()

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold while computing an entry, so that no other process computes it too."""
        self._root.mkdir(parents=True, exist_ok=True)
        with FileLock(self._root / f"{key}.lock"):
            yield

    def get(self, key: str) -> np.ndarray | None:
        """The array, memory-mapped and read-only; None if it is not there, or damaged (which is said, and removed)."""
        data, about = self._paths(key)
        if not about.exists():
            return None
        try:
            record = json.loads(about.read_text(encoding="utf-8"))
            if key not in self._verified and _sha256(data) != record["sha256"]:
                raise ValueError("its SHA-256 is another")
            array = np.load(data, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError) as error:
            say(f"stored vectors {data.name} are damaged ({error}): they are computed again")
            self._remove(key)
            return None
        self._verified.add(key)
        os.utime(about)
        return array

    def put(self, key: str, array: np.ndarray, about: dict[str, Any]) -> None:
        """Keep an array, then remove the least recently used beyond the size allowed (never this one)."""
        self._root.mkdir(parents=True, exist_ok=True)
        data, record = self._paths(key)
        handle, temporary = tempfile.mkstemp(dir=self._root, prefix=f".{key}.", suffix=".npy")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
            digest = _sha256(Path(temporary))
            os.chmod(temporary, 0o644)
            os.replace(temporary, data)
        except BaseException:
            os.unlink(temporary)
            raise
        write_atomically(record, json.dumps({"sha256": digest, "shape": array.shape, "about": about}, indent=1) + "\n")
        self.prune(self._max_bytes, keep=key)

    def entries(self) -> list[Entry]:
        """All entries, the most recently used first."""
        found = []
        for record in self._root.glob("*.json"):
            data = record.with_suffix(".npy")
            with contextlib.suppress(OSError, ValueError):  # another process may be removing it
                about = json.loads(record.read_text(encoding="utf-8"))["about"]
                found.append(Entry(record.stem, data.stat().st_size, record.stat().st_mtime, about))
        return sorted(found, key=lambda entry: -entry.used)

    def prune(self, max_bytes: int, keep: str | None = None) -> int:
        """Remove the least recently used entries until `max_bytes` are left; returns the bytes removed."""
        entries = self.entries()
        excess = sum(entry.size for entry in entries) - max_bytes
        removed = 0
        for entry in reversed(entries):
            if removed >= excess:
                break
            if entry.key != keep:
                self._remove(entry.key)
                removed += entry.size
        return removed

    def _remove(self, key: str) -> None:
        data, about = self._paths(key)
        self._verified.discard(key)
        for path in (about, data):
            path.unlink(missing_ok=True)

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self._root / f"{key}.npy", self._root / f"{key}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("list", "prune"))
    parser.add_argument("--path", type=Path, default=Path("mlruns/store"))
    parser.add_argument("--max-gib", type=float, default=0.0, help="prune: how much may stay")
    args = parser.parse_args()
    store = EmbeddingStore(args.path, args.max_gib)
    if args.action == "prune":
        print(f"removed {store.prune(int(args.max_gib * GIB)) / GIB:.3f} GiB from {args.path}")
        return
    entries = store.entries()
    for entry in entries:
        about = " ".join(f"{key}={value}" for key, value in entry.about.items())
        print(f"{entry.key}  {entry.size / 2**20:9.1f} MiB  {about}")
    print(f"{len(entries)} entries, {sum(entry.size for entry in entries) / GIB:.3f} GiB in {args.path}")


if __name__ == "__main__":
    main()
