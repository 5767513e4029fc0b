"""A local tracking database: made whole or not at all, used by one process of the machine at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rwkv_sweep.errors import UserError
from rwkv_sweep.redaction import redact
from rwkv_sweep.tracking.uris import sqlite_uri

LOCK_SECONDS = 120.0


def create(database: Path) -> None:
    """Make an SQLite database under another name first: SQLite keeps what a killed migration had done of its tables,
    and no later one gets over that."""
    unfinished = database.with_name(f"{database.name}.unfinished")
    for path in database.parent.iterdir():
        if path.name.startswith(unfinished.name):
            path.unlink()
    MlflowClient(tracking_uri=sqlite_uri(unfinished)).search_experiments(max_results=1)
    os.replace(unfinished, database)


@contextlib.contextmanager
def schema_explained() -> Iterator[None]:
    """A database of another version of MLflow becomes a UserError with what helps: MLflow upgrades old ones alone, and
    of a newer one says that it is out of date."""
    try:
        yield
    except MlflowException as error:
        match = re.search(r"database schema \(found version (?P<version>\w+)", str(error))
        if match is None:
            raise
        migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
        if any(migrations.glob(f"{match['version']}_*.py")):
            raise UserError(
                "its database was made by an older MLflow: after a backup, mlflow db upgrade and this URI bring it to "
                f"the tables of MLflow {mlflow.__version__}; or take another tracking.uri"
            ) from error
        raise UserError(
            f"its database was made by a newer MLflow than {mlflow.__version__}, which cannot read it: take another "
            "tracking.uri, such as sqlite:///mlruns/other.db"
        ) from error


@contextlib.contextmanager
def turns(path: Path) -> Iterator[None]:
    """Hold while one process of this machine at a time may do something with the file at `path`."""
    with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        yield


def lock_of(uri: str) -> Path:
    """Stands for a server in this user's temporary folder."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"rwkv_sweep-{user}-{hashlib.sha256(redact(uri).encode()).hexdigest()[:16]}"
