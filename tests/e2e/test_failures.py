"""Runs that do not end well: what is recorded of them, and what is reported."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.finished import MODEL_METRICS, Command, Sweep, without, without_tracking_time
from tests.search_path import LIMIT_S

TOO_LARGE = (
    "blocks.2.attention.key.weight has an entry of size 1e+06, too large for float16: valid is precision=bf16 or fp32"
)


@pytest.fixture(scope="module")
def mixed(command: Command, job: list[str], small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Four jobs: weights that fp16 cannot hold, the same in fp32, and random weights in both."""
    from rwkv_sweep.models.rwkv6.export import load_causal_lm

    model = load_causal_lm(small_model)
    model.rwkv.blocks[2].attention.key.weight.data[0, 0] = 1e6
    folder = tmp_path_factory.mktemp("mixed")
    model.save_pretrained(folder / "large")
    sizes = ("hidden_size=32", "num_blocks=4", "head_size=8", "intermediate_size=64", "vocab_size=256")
    arguments = [f"model.path={folder / 'large'}", *(f"model.{size}" for size in sizes), "layer=3"]
    arguments += ["-m", "model=local,random", "precision=fp16,fp32"]
    cwd = folder / "cwd"
    return Sweep(command([*without(job, arguments), *arguments], cwd), cwd)


def test_a_failing_job_is_a_recorded_result(mixed: Sweep) -> None:
    assert mixed.done.returncode == 1
    runs = {run.info.run_name: run for run in mixed.runs("model")}
    assert {name: run.info.status for name, run in runs.items()} == {
        "model=local,precision=fp16": "FAILED",
        "model=local,precision=fp32": "FINISHED",
        "model=random,precision=fp16": "FINISHED",
        "model=random,precision=fp32": "FINISHED",
    }
    failed, finished = runs["model=local,precision=fp16"], runs["model=local,precision=fp32"]
    assert failed.data.tags["rwkv_sweep.error_message"] == TOO_LARGE
    assert failed.data.tags["rwkv_sweep.error_kind"] == "UserError"
    assert failed.data.params["precision"] == "fp16"
    assert all(name.startswith("time/") for name in failed.data.metrics)
    assert finished.data.metrics == without_tracking_time(mixed.results()[finished.info.run_name])
    assert finished.data.metrics.keys() >= MODEL_METRICS
    assert mixed.only("sweep").info.status == "FAILED"
    assert mixed.results()[failed.info.run_name]["error"] == {"kind": "UserError", "message": TOO_LARGE}


def test_a_failing_job_is_reported_in_the_table_and_at_once(mixed: Sweep) -> None:
    lines = mixed.done.stdout.splitlines()
    assert ["3", "fp16", "local", "FAILED"] in [line.split() for line in lines]
    assert f"FAILED model=local,precision=fp16: {TOO_LARGE}" in lines
    assert mixed.done.stderr.splitlines() == [
        "model=local,precision=fp16",
        f"error: model=local,precision=fp16 failed: {TOO_LARGE}",
        "model=local,precision=fp32",
        "model=random,precision=fp16",
        "model=random,precision=fp32",
    ]


def test_random_weights_have_no_quality(mixed: Sweep) -> None:
    for run in mixed.runs("model"):
        scored = {key for key in run.data.metrics if key.startswith(("quality/", "baseline/"))}
        if run.data.params["model"] == "random":
            assert run.data.tags["note.quality"] == "absent: the weights are random"
            assert scored == set()
            assert run.data.metrics["throughput/tokens_per_s"] > 0 and run.data.metrics["latency/p50_ms"] > 0
        else:
            assert "note.quality" not in run.data.tags
    assert not (mixed.root / "2" / "pairs.csv").exists() and (mixed.root / "1" / "pairs.csv").exists()


def test_interrupt_keeps_what_has_finished(job: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    arguments = ["-m", *job, "layer=range(0,12)", "precision=fp32,fp16", "baselines=[word_overlap]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rwkv_sweep", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # The second job's folder: by then the first is in MLflow, too.
        wait_for(lambda: any(tmp_path.glob("multirun/*/*/1")), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted: what had finished is kept" and "Traceback" not in err
    assert out == "24 runs: checking model, data and device\n"
    sweep = Sweep(subprocess.CompletedProcess(arguments, 130, out, err), tmp_path)
    assert sweep.only("sweep").info.status == "KILLED"
    statuses = {run.info.run_name: run.info.status for run in sweep.runs("model")}
    assert statuses["precision=fp32,layer=0"] == "FINISHED"
    assert len(statuses) < 24 and set(statuses.values()) <= {"FINISHED", "KILLED"}
    recorded = {name: result["status"] for name, result in sweep.results().items() if result["kind"] == "model"}
    assert recorded == statuses
    assert sweep.only("baseline").info.status == "FINISHED"


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = LIMIT_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate(timeout=5)
        time.sleep(0.02)
