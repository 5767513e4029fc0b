"""A local tracking database: made whole or not at all, used by one process of the machine at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from mlflow.tracking import MlflowClient

from rwkv_sweep.redaction import redact

LOCK_SECONDS = 120.0


def create(database: Path) -> None:
    """Make an SQLite database under another name first: SQLite keeps what a killed migration had done of its tables,
    and no later one gets over that."""
    unfinished = database.with_name(f"{database.name}.unfinished")
    for path in database.parent.glob(f"{unfinished.name}*"):
        path.unlink()
    MlflowClient(tracking_uri=f"sqlite:///{unfinished}").search_experiments(max_results=1)
    os.replace(unfinished, database)


@contextlib.contextmanager
def turns(path: Path) -> Iterator[None]:
    """Hold while one process of this machine at a time may do something with the file at `path`."""
    with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        yield


def lock_of(uri: str) -> Path:
    """Stands for a server in this user's temporary folder."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"rwkv_sweep-{user}-{hashlib.sha256(redact(uri).encode()).hexdigest()[:16]}"
