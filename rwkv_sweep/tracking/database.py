"""A local tracking database: made whole or not at all, used by one process of the machine at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from rwkv_sweep.errors import UserError, first_line
from rwkv_sweep.tracking.uris import sqlite_uri
from rwkv_sweep.utils.console import log_line_once
from rwkv_sweep.utils.redaction import redact
from rwkv_sweep.utils.shared_files import follow_folder, shared_lock
from rwkv_sweep.utils.signals import interrupts_wait
from rwkv_sweep.utils.user_folders import cache_folder, temporary_folder

LOCK_SECONDS = 120.0

DATABASE_TRIES = 3
"""The waits between them are 0.1 and 0.3 s."""


def create(database: Path) -> None:
    """Make an SQLite database under another name first: SQLite keeps what a killed migration had done of its tables,
    and no later one gets over that."""
    unfinished = database.with_name(f"{database.name}.unfinished")
    for path in database.parent.iterdir():
        if path.name.startswith(unfinished.name):
            path.unlink()
    try:
        prepare_database()
        shutil.copyfile(prepared_database(), unfinished)
        _place_experiment(unfinished)
    except OSError as error:
        log_line_once(f"a database is made without a prepared one, which takes seconds ({first_line(error)})")
        unfinished.unlink(missing_ok=True)
        MlflowClient(tracking_uri=sqlite_uri(unfinished)).search_experiments(max_results=1)
    follow_folder(unfinished)
    os.replace(unfinished, database)


def prepared_database() -> Path:
    """Where this user keeps an empty database of this version of MLflow, as making one takes seconds."""
    return cache_folder() / f"mlflow-{mlflow.__version__}-empty.db"


def prepare_database() -> None:
    """Make `prepared_database`, unless it is there.

    Raises:
        OSError: nothing can be written there.
    """
    prepared = prepared_database()
    if _is_whole(prepared):
        return
    prepared.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prepared.parent) as folder:
        database = Path(folder) / prepared.name
        # The place of its own experiment's artifacts is written into SQL as it is, quotes and all; a URI has none.
        SqlAlchemyStore(sqlite_uri(database), (Path(folder) / "mlruns").as_uri()).engine.dispose()
        os.replace(database, prepared)


def _place_experiment(database: Path) -> None:
    """Give MLflow's own experiment the time and the place of artifacts that it has in a database made here."""
    now = int(time.time() * 1000)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "update experiments set artifact_location = ?, creation_time = ?, last_update_time = ?",
            (str(Path("mlruns", "0").absolute()), now, now),
        )


def _is_whole(prepared: Path) -> bool:
    """Whether a prepared database is there, this user's own, and undamaged."""
    if not prepared.is_file() or (hasattr(os, "getuid") and prepared.stat().st_uid != os.getuid()):
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{prepared.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("pragma quick_check").fetchone() == ("ok",)
    except sqlite3.Error:
        return False


@contextlib.contextmanager
def schema_explained() -> Iterator[None]:
    """A database of another version of MLflow becomes a UserError with what helps: MLflow upgrades old ones alone, and
    of a newer one is reported as out of date."""
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
def exclusive_access(path: Path) -> Iterator[None]:
    """Hold while one process of this machine at a time may do something with the file at `path`.

    Where there is no lock to be had (another user made it for himself alone) work goes on: databases have locks of
    their own, under which two writers at once may fail.
    """
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(shared_lock(path.with_name(f"{path.name}.lock"), LOCK_SECONDS))
        except OSError as error:
            if os.access(path, os.W_OK):
                log_line_once(f"{path.name} is written without its lock ({first_line(error)})")
        yield


@contextlib.contextmanager
def uninterrupted_access(database: Path) -> Iterator[None]:
    """`exclusive_access` to a local database, within which interrupts wait: one in the midst of a statement leaves its
    lock to this very process, which could then not even record that it was interrupted."""
    with exclusive_access(database), interrupts_wait():
        yield


def lock_of(uri: str) -> Path:
    """Stands for a server in this user's temporary folder."""
    digest = hashlib.sha256(redact(uri).encode()).hexdigest()[:16]
    return (temporary_folder() or Path(tempfile.gettempdir())) / f"tracking-{digest}"


def limit_database_tries() -> None:
    """MLflow tries ten times to open a database, 100 s in all; a sweep has a second try of its own, at its end."""
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = DATABASE_TRIES
