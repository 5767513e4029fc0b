"""Many processes track their runs in one database at once, from its first moment: none is lost, none doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rwkv_sweep.cli.server import postgres
from rwkv_sweep.errors import UserError
from tests.search_path import LIMIT_S


def crowd(uri: str, folder: Path, workers: int, runs: int, environment: dict[str, str]) -> float:
    """Seconds that it took; checked in the database afterwards."""
    from rwkv_sweep.tracking import MlflowClient

    (folder / "records").mkdir(parents=True)
    script = Path(__file__).with_name("crowd.py")
    command = [sys.executable, str(script), uri, str(folder / "artifacts"), str(workers), str(runs), folder / "records"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["lost"] == [0] * workers, done.stderr
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [experiment for experiment in client.search_experiments() if experiment.name == "crowd"]
    actual = client.search_runs([experiment.experiment_id], max_results=1000)
    assert Counter(run.data.tags["rwkv_sweep.record"] for run in actual) == Counter(f"id{n}" for n in range(runs))
    assert {run.info.status for run in actual} == {"FINISHED"}
    for run in actual:
        number = int(run.info.run_name.split()[1])
        assert run.data.metrics == {f"quality/{index}": number + index / 100 for index in range(60)}
        assert run.data.params == {f"key_{index}": str(index) for index in range(50)}
    return float(report["seconds"])


@pytest.fixture
def database() -> Iterator[str]:
    """A fresh PostgreSQL; skipped, with the reason, where it is not installed."""
    # Not pytest's own folder, which the user that PostgreSQL runs as may not enter.
    with tempfile.TemporaryDirectory(prefix="rwkv_sweep-test-") as folder:
        os.chmod(folder, 0o755)
        try:
            with postgres(Path(folder)) as uri:
                yield uri
        except UserError as error:
            if "not installed" not in str(error):
                raise
            pytest.skip(str(error))


def test_four_processes_on_a_fresh_sqlite_file(tmp_path: Path, fault_environment: dict[str, str]) -> None:
    crowd(f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path, 4, 20, fault_environment)


@pytest.mark.faults
def test_sixteen_processes_on_a_fresh_sqlite_file(tmp_path: Path, fault_environment: dict[str, str]) -> None:
    seconds = crowd(f"sqlite:///{tmp_path}/new/mlflow.db", tmp_path, 16, 200, fault_environment)
    print(f"SQLite: 200 runs of 16 processes in {seconds:.1f} s, {seconds / 200:.3f} s a run")


@pytest.mark.faults
def test_sixteen_processes_on_a_fresh_postgresql(
    tmp_path: Path, database: str, fault_environment: dict[str, str]
) -> None:
    seconds = crowd(database, tmp_path, 16, 200, fault_environment)
    print(f"PostgreSQL: 200 runs of 16 processes in {seconds:.1f} s, {seconds / 200:.3f} s a run")
