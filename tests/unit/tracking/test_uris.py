"""Where runs are tracked: paths within URIs, what is refused beforehand, and what needs no MLflow."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.tracking.checks import check_tracking, unused_variable
from rwkv_sweep.tracking.uris import absolute_uri, lasting, sqlite_path, ui_command
from tests.search_path import search_path

FOLDERS = (
    "feature%2Ffoo",
    "a%41b",
    "q?x",
    "h#x",
    "two words",
    "per%cent",
    "pl+us",
    "ünï",
    "a'b\"c",
    "back\\slash",
    "$x",
)


def config(uri: str, **more: str) -> TrackingConfig:
    return TrackingConfig(True, uri, **{"artifacts": "artifacts", "experiment": "e", **more})


@pytest.mark.parametrize("name", FOLDERS)
def test_a_relative_database_lies_in_the_folder_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """SQLAlchemy, which reads these URIs, is the judge."""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    given = config("sqlite:///mlruns/mlflow.db")
    check_tracking(given)
    uri, expected = absolute_uri(given.uri), folder / "mlruns" / "mlflow.db"
    assert make_url(uri).database == str(expected) == str(sqlite_path(uri))
    assert absolute_uri(uri) == uri and make_url(lasting(given)["uri"]).database == str(expected)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    sqlite3.connect(make_url(uri).database or "").execute("create table x (y)")
    assert expected.read_bytes().startswith(b"SQLite format 3\0")
    check_tracking(given)
    monkeypatch.chdir(tmp_path)
    assert sqlite_path(uri) == expected
    if "?" not in name:  # written as it is, and its folder is there
        assert sqlite_path(f"sqlite:///{expected}") == expected
        check_tracking(config(f"sqlite:///{expected}"))


def test_an_escaped_path_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///two%20words/x.db") == tmp_path / "two words" / "x.db"
    assert sqlite_path("sqlite+pysqlite:///a%3Fb.db") == tmp_path / "a?b.db"
    assert (
        ui_command(config("sqlite:///a%3Fb.db"))
        == f"mlflow ui --backend-store-uri sqlite+pysqlite:///{tmp_path}/a%3Fb.db"
    )
    assert ui_command(config("sqlite:///two words/x.db")) == "mlflow ui --backend-store-uri 'sqlite:///two words/x.db'"


@pytest.mark.parametrize(
    "uri",
    [
        "htp://x",
        "./mlruns",
        "mlruns",
        "",
        "file:///tmp/mlruns",
        "http://",
        "http://host:port",
        "http://host:99999",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:///folder",
        "sqlite:///file/x.db",
        "sqlite:///text",
        "sqlite:///" + "x" * 300,
        "sqlite:///dangling",
        "sqlite:///loop/x.db",
        "sqlite:////dev/null",
        "sqlite:///nul\0byte",
        "sqlite:///\udcff.db",
        "postgresql",
        "postgresql+nosuchdriver://h/d",
        "postgresql://h:port/d",
        "mysql+nosuch://me:secret-word@h/d",
        "oracle://h/d",
    ],
)
def test_what_cannot_be_is_refused_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "text").write_text("this is some text, no database")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UserError) as refused:
        check_tracking(config(uri))
    assert str(refused.value).startswith("tracking.uri=")
    assert "valid" in str(refused.value) or "needs the package" in str(refused.value)
    assert "\n" not in str(refused.value) and "secret-word" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("key", "value"), [("experiment", ""), ("experiment", "  "), ("experiment", "x" * 501), ("artifacts", "")]
)
def test_other_keys(key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"^tracking\.{key}="):
        check_tracking(config("http://host", **{key: value}))


@pytest.mark.parametrize(
    "uri", ["http://host", "https://me:x@host:1/path", "http://[::1]:5000", "databricks", "databricks://profile"]
)
def test_what_is_valid(uri: str) -> None:
    check_tracking(config(uri))


def test_nothing_is_checked_where_nothing_is_tracked() -> None:
    check_tracking(TrackingConfig(False, "nonsense", "", ""))


def test_a_variable_that_is_not_used_is_named() -> None:
    default, other = config("sqlite:///mlruns/mlflow.db"), {"MLFLOW_TRACKING_URI": "http://me:secret@host:5000"}
    line = unused_variable(default, ["layer=0"], other)
    assert line == (
        "MLFLOW_TRACKING_URI=http://***@host:5000 is not used, runs are tracked at sqlite:///mlruns/mlflow.db; to use "
        "it: tracking.uri='${oc.env:MLFLOW_TRACKING_URI}'"
    )
    assert unused_variable(default, ["tracking.uri=sqlite:///mlruns/mlflow.db"], other) == ""
    assert unused_variable(default, [], {}) == ""
    assert unused_variable(default, [], {"MLFLOW_TRACKING_URI": f"sqlite:///{Path.cwd()}/mlruns/mlflow.db"}) == ""
    assert unused_variable(TrackingConfig(False, "x", "y", "z"), [], other) == ""


def test_a_run_without_tracking_loads_no_mlflow(tmp_path: Path, repo_root: Path) -> None:
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,label\na cat,the cat,1\na dog,rain,0\nsun,the sun,1\n")
    code = """
import sys
from rwkv_sweep.cli.sweep import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", [name for name in sys.modules if name.split(".")[0] in ("mlflow", "sqlalchemy", "alembic")])
"""
    arguments = ["-m", "layer=0", "dataset=pairs", "dataset.path=pairs.csv", "tracking.enabled=false", "bootstrap=20"]
    arguments += ["measure.latency_pairs=0", "measure.throughput=false", "baselines=[word_overlap]", "device=cpu"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search_path(repo_root)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "loaded: []"
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
