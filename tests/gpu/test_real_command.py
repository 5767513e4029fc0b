"""The command as users type it, at the size of Finch 1B6 on random weights, on one GPU and on several."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.search_path import LIMIT_S

pytestmark = pytest.mark.gpu

HEADLINE = ["-m", "layer=1,3,5,7,9,11", "precision=fp16,int8"]
QUICK = ["measure.latency_pairs=5", "measure.throughput_seconds=0.2", "measure.energy_seconds=0", "bootstrap=200"]
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@pytest.fixture(scope="module")
def environment(repo_root: Path) -> dict[str, str]:
    path = [str(repo_root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def started(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rwkv_sweep", *arguments, f"hydra.sweep.dir={folder / 'sweep'}"]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **both)  # type: ignore[call-overload]


def run(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
    """Records of the jobs and what was printed; the command must succeed and warn of nothing."""
    with started(arguments, folder, environment) as process:
        output = process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 0, output
    assert "WARNING" not in output and "Traceback" not in output, output
    return records(folder), output


def records(folder: Path) -> list[dict[str, Any]]:
    actual = [json.loads(path.read_text()) for path in (folder / "sweep").rglob("result.json")]
    return [record for record in actual if record["kind"] == "model"]


def assert_measured(jobs: list[dict[str, Any]], count: int) -> None:
    assert [job["status"] for job in jobs] == ["FINISHED"] * count, [job["error"] for job in jobs]
    for job in jobs:
        metrics = job["metrics"]
        low, rate, high = (metrics[f"throughput/tokens_per_s{suffix}"] for suffix in ("_lo", "", "_hi"))
        assert 0 < low <= rate <= high and metrics["throughput/ratio"] > 0
        assert metrics["latency/p50_ms"] > 0 and metrics["latency/ratio"] > 0
        assert metrics["memory/peak_allocated_mib"] >= metrics["memory/weights_mib"] > 0
        assert job["tags"]["blocks"].startswith("fused") and job["tags"]["device"].startswith("cuda")


def test_headline_at_full_size(tmp_path: Path, environment: dict[str, str]) -> None:
    jobs, _ = run([*HEADLINE, "model=random", *QUICK], tmp_path, environment)
    assert_measured(jobs, 12)
    by_precision = {
        precision: [job for job in jobs if job["params"]["precision"] == precision] for precision in ("fp16", "int8")
    }
    assert {job["tags"]["pairs"] for job in by_precision["fp16"]} == {"CUDA graph"}
    # The first job has nothing in its peak that the same layer would not have later.
    peaks = {job["params"]["layer"]: job["metrics"]["memory/peak_allocated_mib"] for job in by_precision["fp16"]}
    assert peaks["1"] <= 1.01 * peaks["11"], peaks


@several
def test_jobs_spread_over_cards_give_the_figures_of_one(tmp_path: Path, environment: dict[str, str]) -> None:
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    alone, _ = run([*HEADLINE, *QUICK, "device.index=0"], one, environment)
    spread, _ = run([*HEADLINE, *QUICK, "hydra/launcher=parallel", "hydra.launcher.n_jobs=2"], two, environment)
    assert_measured(alone, 12)
    assert_measured(spread, 12)
    assert {job["tags"]["device"] for job in spread} == {"cuda:0", "cuda:1"}

    def quality(jobs: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
        return {
            (job["params"]["layer"], job["params"]["precision"]): job["metrics"]["quality/spearman"] for job in jobs
        }

    assert quality(spread) == pytest.approx(quality(alone), abs=1e-6)


@several
def test_the_second_card_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    jobs, _ = run(["-m", "layer=1,final", "precision=bf16,fp8", "device.index=1", *QUICK], tmp_path, environment)
    assert_measured(jobs, 4)
    assert {job["tags"]["device"] for job in jobs} == {"cuda:1"}


def test_quantization_preset(tmp_path: Path, environment: dict[str, str]) -> None:
    small = ["measure.speedup_rounds=3", "precision=fp32,bf16,int8,int8_dynamic,fp8,nf4"]
    jobs, output = run(["+experiment=quantization", "model=random", *small, *QUICK], tmp_path, environment)
    assert_measured(jobs, 6)
    assert all("speedup/over_fp32" in job["metrics"] for job in jobs if job["params"]["precision"] != "fp32")
    assert "report.html" in output


def test_aggregation_preset(tmp_path: Path, environment: dict[str, str]) -> None:
    small = ["configuration=final,all_mean", "measure.overhead_pairs=20", "measure.overhead_batches=5"]
    arguments = ["+experiment=aggregation_overhead", "model=random", "device=cuda", *small, *QUICK]
    jobs, _ = run(arguments, tmp_path, environment)
    assert_measured(jobs, 2)
    assert all(job["metrics"]["overhead/latency_ratio"] > 0 for job in jobs)


def test_the_study_preset(tmp_path: Path, environment: dict[str, str]) -> None:
    arguments = ["+experiment=paper", "model=random", "dataset=embedded", "measure.latency_pairs=20", "bootstrap=200"]
    jobs, _ = run(arguments, tmp_path, environment)
    assert [job["status"] for job in jobs] == ["FINISHED"] * 6
    times = [
        job["metrics"]["latency/device_p50_ms"] for job in sorted(jobs, key=lambda job: int(job["params"]["layer"]))
    ]
    assert len(times) == 6 and min(times) > 0


def test_resume_after_a_kill(tmp_path: Path, environment: dict[str, str]) -> None:
    sweep = ["-m", "model=random", "layer=1,3,5", "precision=fp16", *QUICK]
    with started(sweep, tmp_path, environment) as process:
        deadline = time.monotonic() + 200
        while not records(tmp_path) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    before = {record["id"]: record for record in records(tmp_path)}
    assert before, "no job finished before the kill"
    jobs, _ = run([*sweep, "resume=true"], tmp_path, environment)
    assert_measured(jobs, 3)
    assert before.keys() <= {job["id"] for job in jobs}


def test_out_of_memory_takes_smaller_batches(tmp_path: Path, environment: dict[str, str]) -> None:
    """Another program has most of the card: what is left holds the weights and a batch, but not the batch asked for."""
    words = [f"word{number % 977}" for number in range(60_000)]
    rows = [
        f"{' '.join(words[at : at + 60])}\t{' '.join(words[at + 60 : at + 120])}\t{at // 120 % 2}"
        for at in range(0, 60_000, 120)
    ]
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\tlabel\n" + "\n".join(rows) + "\n")
    free, _ = torch.cuda.mem_get_info(0)
    filler = torch.empty(max(0, free - 9 * 2**30), dtype=torch.uint8, device="cuda:0")
    try:
        arguments = [
            "-m",
            "model=random",
            "layer=11",
            "precision=fp16",
            "device.index=0",
            "dataset=pairs",
            f"dataset.path={pairs}",
        ]
        jobs, output = run([*arguments, "batch_tokens=400000", *QUICK], tmp_path, environment)
    finally:
        del filler
        torch.cuda.empty_cache()
    assert_measured(jobs, 1)
    assert "out of memory" in output and int(jobs[0]["tags"]["batch_tokens"]) < 400_000
