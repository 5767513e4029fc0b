"""What a sweep does when something goes wrong: failures are results, tracking may fail, a resume loses nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Commands
from tests.faults.sweeps import arguments, latest_root, records, tracked


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path, few_pairs: Path) -> list[str]:
    """A sweep's command but for what it sweeps."""
    return arguments([], tiny_checkpoint, few_pairs)


def ends_of(runs: list[Any]) -> dict[str, int]:
    return {run.info.run_id: run.info.end_time for run in runs}


def layers_and_ids(root: Path) -> dict[str, str]:
    return {record["params"]["layer"]: record["id"] for record in records(root).values() if record["kind"] == "model"}


@pytest.fixture(scope="module")
def failing(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that fp16 cannot hold."""
    from rwkv_sweep.models.rwkv6.export import load_causal_lm

    model = load_causal_lm(tiny_checkpoint)
    model.rwkv.blocks[0].attention.key.weight.data[0, 0] = 1e6
    folder = tmp_path_factory.mktemp("failing")
    model.save_pretrained(folder)
    return folder


@pytest.mark.faults
def test_on_error_stop_leaves_the_rest_to_a_resume(
    commands: Commands, base: list[str], failing: Path, tmp_path: Path
) -> None:
    command = [*base, f"model.path={failing}", "precision=fp16,fp32", "hydra.sweep.dir=sweep"]
    stopped = commands.run([*command, "on_error=stop"], tmp_path)
    assert stopped.code == 1
    message = "1 of 2 jobs left no record after a failure (on_error=stop): the same command with resume=true runs them"
    assert message in stopped.output
    assert {record["status"] for record in records(tmp_path / "sweep").values()} == {"FAILED", "FINISHED"}  # a baseline
    went_on = commands.run([*command, "resume=true"], tmp_path)
    assert went_on.code == 1, went_on.output
    statuses = {name: record["status"] for name, record in records(tmp_path / "sweep").items()}
    assert statuses == {"precision=fp16": "FAILED", "precision=fp32": "FINISHED", "word_overlap": "FINISHED"}
    assert len(list((tmp_path / "sweep" / "earlier").iterdir())) == 1


def test_a_sweep_in_a_folder_that_holds_one_is_refused(commands: Commands, base: list[str], tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    refused = commands.run([*base, "layer=0,1", "hydra.sweep.dir=sweep"], tmp_path)
    assert refused.code == 2
    assert refused.output == (
        "2 runs: checking model, data and device\n"
        f"error: hydra.sweep.dir={tmp_path}/sweep holds a sweep already: valid is resume=true to go on with it, or "
        "another folder\n"
    )


def test_renumbered_jobs_are_found_and_others_set_aside(commands: Commands, base: list[str], tmp_path: Path) -> None:
    command = [*base, "hydra.sweep.dir=sweep", "resume=true"]
    assert commands.run([*command, "layer=1,2"], tmp_path).code == 0
    first = layers_and_ids(tmp_path / "sweep")
    more = commands.run([*command, "layer=0,1,3"], tmp_path)
    assert more.code == 0, more.output
    assert more.output.count("finished before, not run again") == 1
    second = layers_and_ids(tmp_path / "sweep")
    assert second.keys() == {"0", "1", "3"} and second["1"] == first["1"]
    assert json.loads((tmp_path / "sweep" / "1" / "result.json").read_text())["params"]["layer"] == "1"
    kept = [json.loads(path.read_text()) for path in (tmp_path / "sweep" / "earlier").glob("*/result.json")]
    assert {record["id"] for record in kept} == set(first.values())
    names = [run.info.run_name for run in tracked(tmp_path) if run.data.tags["rwkv_sweep.kind"] == "model"]
    assert sorted(names) == ["layer=0", "layer=1", "layer=2", "layer=3"]


def test_tracking_that_fails_keeps_runs_on_disk_and_no_secret(
    commands: Commands, base: list[str], tmp_path: Path, fault_environment: dict[str, str]
) -> None:
    secret = "tracking.uri=postgresql://reader:hunter2@127.0.0.1:1/runs"
    ended = commands.run([*base, "layer=0,1", "hydra.sweep.dir=sweep", secret], tmp_path)
    assert ended.code == 0, ended.output
    lines = ended.output.splitlines()
    message = [line for line in lines if line.startswith("tracking at postgresql://***@127.0.0.1:1/runs failed (")]
    assert len(message) == 1 and message[0].endswith("): runs are kept on disk")
    assert f"to track them later: rwkv-sweep import {tmp_path}/sweep" in lines
    assert len(records(tmp_path / "sweep")) == 3
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path

    def import_record(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rwkv_sweep", "import", "sweep", *options]
        return subprocess.run(command, cwd=tmp_path, env=fault_environment, capture_output=True, text=True)

    refused = import_record()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: --uri must be given: the password of ") and refused.stderr.count("\n") == 1
    database = "sqlite:///mlruns/mlflow.db"
    assert import_record("--uri", database).stdout == "sweep: 3 imported, 0 completed, 0 there already\n"
    before = tracked(tmp_path)
    assert import_record("--uri", database).stdout == "sweep: 0 imported, 0 completed, 3 there already\n"
    after = tracked(tmp_path)
    assert len(before) == len(after) == 4 and {run.info.status for run in after} == {"FINISHED"}
    assert ends_of(before) == ends_of(after)
    (parent,) = [run for run in after if run.data.tags["rwkv_sweep.kind"] == "sweep"]
    children = [run for run in after if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    by_name = records(tmp_path / "sweep")
    assert all(run.data.metrics == by_name[run.info.run_name]["metrics"] for run in children)


@pytest.mark.faults
def test_a_sweep_killed_without_its_folder_leaves_nothing_running(
    commands: Commands, base: list[str], tmp_path: Path
) -> None:
    """The next sweep in the same place closes it, whether or not it is resumed."""
    command, killed = [*base, "layer=0,1"], None
    for delay in (0.3 * 1.3**step for step in range(20)):  # on any machine one of them is in the middle of it
        killed = commands.run(command, tmp_path, delay)
        if any(tmp_path.glob("multirun/*/*/sweep.json")) and tracked(tmp_path):
            break
    assert killed is not None and killed.code == -9
    for root in tmp_path.glob("multirun/*/*"):
        shutil.rmtree(root)
    before = [run.info.status for run in tracked(tmp_path)]
    assert commands.run(command, tmp_path).code == 0
    statuses = [run.info.status for run in tracked(tmp_path)]
    assert "RUNNING" not in statuses and statuses.count("FINISHED") == before.count("FINISHED") + 4


@pytest.mark.faults
def test_isolated_jobs(commands: Commands, base: list[str], tmp_path: Path) -> None:
    """Two processes, one result each, tracked by the process that started them."""
    ended = commands.run([*base, "layer=0,1", "isolate=true", "timeout_s=200"], tmp_path)
    assert ended.code == 0, ended.output
    actual = [record for record in records(latest_root(tmp_path)).values() if record["kind"] == "model"]
    assert [record["status"] for record in actual] == ["FINISHED", "FINISHED"]
    assert {record["tags"]["isolated"] for record in actual} == {"true"}
    assert [run.info.status for run in tracked(tmp_path)] == ["FINISHED"] * 4
    late = commands.run([*base, "layer=0", "isolate=true", "timeout_s=0.01"], tmp_path)
    assert late.code == 1
    assert (
        "error: model=local,layer=0,precision=fp32 failed: took longer than timeout_s=0.01 and was ended" in late.output
    )
