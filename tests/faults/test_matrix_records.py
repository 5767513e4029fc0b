"""Damaged records before report, compare, import and resume: all others are taken, and what is left out is named in one
line. No traceback, and no change of the damaged file. Every damage meets every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.tracking import MlflowClient
from tests.commands import Commands
from tests.damaged_records import CHANGES, SWEEP_CHANGES
from tests.faults.sweeps import Streams, arguments, records

pytestmark = pytest.mark.faults


def imported(database: Path, experiment: str) -> list[str]:
    """Names of an experiment's finished runs, without the sweep's own."""
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    actual = client.get_experiment_by_name(experiment)
    assert actual is not None
    runs = client.search_runs([actual.experiment_id], max_results=1000)
    assert "RUNNING" not in {run.info.status for run in runs}
    return sorted(run.info.run_name for run in runs if run.data.tags["rwkv_sweep.kind"] != "sweep")


@pytest.mark.parametrize("change", CHANGES)
def test_report_and_compare(copy: Callable[[], Path], two_sweeps: Path, streams: Streams, change: str) -> None:
    root = copy()
    path = root / "1" / "result.json"
    content = CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    code, out, err = streams.of("report", root)
    assert code == 0 and f"{root}/report.html" in out.splitlines()
    assert err.count("\n") == 1 and err.startswith(f"counted as failed: {path} is damaged: ")
    rows = (root / "summary.csv").read_text().splitlines()
    assert sum(",FINISHED," in row for row in rows) == 3 and sum(",FAILED," in row for row in rows) == 1
    code, out, err = streams.of("compare", root, two_sweeps / "B", "--resamples", 50)
    assert code == 0 and err.count("\n") == 1 and err.startswith(f"left out of A: {path} is damaged: ")
    assert "only B   1: " in out
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", CHANGES)
def test_import(copy: Callable[[], Path], database: Path, streams: Streams, change: str) -> None:
    root, experiment = copy(), f"import {change}"
    path = root / "1" / "result.json"
    content = CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    given = [root, "--uri", f"sqlite:///{database}", "--experiment", experiment]
    code, out, err = streams.of("import", *given)
    assert code == 2 and out == f"{root}: 3 imported, 0 completed, 0 there already, 1 left out\n"
    assert err.count("\n") == 1 and f"left out: {path} is damaged: " in err
    assert len(imported(database, experiment)) == 3
    code, out, _ = streams.of("import", *given)
    assert code == 2 and out == f"{root}: 0 imported, 0 completed, 3 there already, 1 left out\n"


REFUSED: dict[str, dict[str, Any]] = {
    "a metric's name": {"metrics": {"a//b": 1.0}},
    "a metric's name with a mark": {"metrics": {"a=b": 1.0}},
    "a parameter's name": {"params": {"../x": "1"}},
    "a long name": {"metrics": {"x" * 600: 1.0}},
}
TAKEN: dict[str, dict[str, Any]] = {
    "no model": {"params": {"layer": "1"}, "tags": {"model_fingerprint": "abc"}},
    "odd model": {"params": {"model": "\t:/'\"%.", "precision": "x" * 300}, "tags": {"model_fingerprint": "a'b"}},
    "a key of a newer version": {"schema": 9, "extra": {"deep": [1]}},
    "NaN": {"metrics": {"quality/spearman": float("nan")}},
    "an empty tag": {"tags": {"x": "", "y": "z" * 9000}},
    "long values": {"params": {"dataset.path": "p" * 9000}},
}


@pytest.mark.parametrize("odd", [*REFUSED, *TAKEN])
def test_import_of_what_mlflow_may_refuse(copy: Callable[[], Path], database: Path, streams: Streams, odd: str) -> None:
    root, experiment = copy(), f"odd {odd}"
    path = root / "1" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(REFUSED | TAKEN)[odd]}))
    given = [root, "--uri", f"sqlite:///{database}", "--experiment", experiment]
    code, out, err = streams.of("import", *given)
    if odd in TAKEN:
        assert (code, err) == (0, "") and out.startswith(f"{root}: 4 imported, ")
        assert len(imported(database, experiment)) == 4
    else:
        assert code == 2 and out == f"{root}: 3 imported, 0 completed, 0 there already, 1 left out\n"
        assert err.count("\n") == 1 and f"left out: {root}/1: " in err
        imported(database, experiment)
    assert streams.of("report", root)[0] == 0


@pytest.mark.parametrize("change", SWEEP_CHANGES)
def test_a_damaged_sweep(copy: Callable[[], Path], streams: Streams, change: str) -> None:
    """Without its record a sweep is none; others beside it are imported."""
    root = copy()
    path = root / "sweep.json"
    content = SWEEP_CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for verb in ("report", "import"):
        code, out, err = streams.of(verb, root)
        assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith(f"error: {path} is damaged: ")


@pytest.fixture(scope="module")
def finished(
    commands: Commands, tiny_checkpoint: Path, few_pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path]:
    """The command of a sweep that is complete, and where it was started."""
    cwd = tmp_path_factory.mktemp("finished")
    quick = ["layer=0,1", "measure.latency_pairs=0", "hydra.sweep.dir=sweep", "tracking.enabled=false"]
    command = [*arguments([], tiny_checkpoint, few_pairs), *quick]
    ended = commands.run(command, cwd)
    assert ended.code == 0, ended.output
    (cwd / "sweep").rename(cwd / "complete")
    return command, cwd


@pytest.mark.parametrize("change", CHANGES)
def test_resume(commands: Commands, finished: tuple[list[str], Path], change: str) -> None:
    """What cannot be read is run again; what was stored there is kept."""
    command, cwd = finished
    shutil.rmtree(cwd / "sweep", ignore_errors=True)
    shutil.copytree(cwd / "complete", cwd / "sweep")
    path = cwd / "sweep" / "1" / "result.json"
    content = CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    ended = commands.run([*command, "resume=true"], cwd)
    assert ended.code == 0 and "Traceback" not in ended.output, ended.output
    assert ended.output.count("finished before, not run again") == 1
    assert {record["status"] for record in records(cwd / "sweep").values()} == {"FINISHED"}
    assert [kept.read_bytes() for kept in (cwd / "sweep" / "earlier").glob("*/result.json")] == [before]
