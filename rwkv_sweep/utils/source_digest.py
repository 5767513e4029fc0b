"""A digest of source code, so that results of another program are not taken for this one's."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from rwkv_sweep.utils.package_paths import PACKAGE


@functools.cache
def source_digest(*parts: str) -> str:
    """SHA-256 over every Python file of these packages or modules of `rwkv_sweep`, and over the modules at its top.

    Args:
        parts: folders (`models`) or files (`sweep/runs/measuring.py`), as paths within the package.

    Raises:
        FileNotFoundError: a part that holds no Python file: it was moved, and what it decides would go unnoticed.
    """
    digest = hashlib.sha256()
    files = sorted(PACKAGE.glob("*.py"))
    for part in sorted(parts):
        files += _files(PACKAGE / part)
    for path in files:
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.is_file() else []
    if not files:
        raise FileNotFoundError(f"no Python file in {path}: the list of sources that decide results is out of date")
    return files
