"""A new tracking database is a copy of a prepared one, which is made again where it is damaged."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from rwkv_sweep.tracking import database
from rwkv_sweep.tracking.uris import sqlite_uri


def value(path: Path, query: str) -> object:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchone()[0]


def test_a_damaged_prepared_database_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow writes the folder into SQL as it is: quotes of both kinds end the statement.
    (here := tmp_path / 'it\'s "so"').mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(database, "cache_folder", lambda: tmp_path / "cache")
    prepared = database.prepared_database()
    prepared.parent.mkdir()
    prepared.write_bytes(b"SQLite format 3\0 and no more")
    mine = tmp_path / "mine.db"
    database.create(mine)
    assert [path.name for path in prepared.parent.iterdir()] == [prepared.name]
    assert value(mine, "pragma integrity_check") == value(prepared, "pragma integrity_check") == "ok"
    version = "select version_num from alembic_version"
    assert value(mine, version) == value(prepared, version)
    (experiment,) = MlflowClient(tracking_uri=sqlite_uri(mine)).search_experiments()
    assert (experiment.name, experiment.artifact_location) == ("Default", str(here / "mlruns" / "0"))
