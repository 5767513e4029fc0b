"""The command that answers research question 2, on a small model."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
PRECISIONS = ("fp32", "tf32", "bf16", "int8_dynamic", "int4_hqq")


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Each job's record by its precision."""
    actual = [json.loads(path.read_text()) for path in sorted(folder.glob("multirun/*/*/[0-9]*/result.json"))]
    return {record["params"]["precision"]: record for record in actual}


@pytest.fixture(scope="module")
def swept(command: Command, job: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantization") / "run"
    measure = ["measure.speedup_rounds=5", "measure.throughput_seconds=0.1"]
    done = command(["+experiment=quantization", f"precision={','.join(PRECISIONS)}", *job, *measure], folder)
    assert done.returncode == 0, done.stderr
    assert "precision=tf32 unsupported: precision.base=tfloat32 needs a GPU" in done.stderr
    assert "UNSUPPORTED precision=tf32" in done.stdout
    return folder


def test_each_precision_is_held_against_fp32(swept: Path) -> None:
    actual = records(swept)
    assert set(actual) == set(PRECISIONS)
    for name in ("bf16", "int8_dynamic", "int4_hqq"):
        metrics = actual[name]["metrics"]
        assert (
            actual[name]["status"] == "FINISHED" and metrics["parity/cosine_p01"] <= metrics["parity/cosine_mean"] < 1
        )
        assert metrics["parity/layer/final/cosine_mean"] == metrics["parity/cosine_mean"] > 0.8
        assert metrics["parity/spearman_delta_lo"] <= metrics["parity/spearman_delta_hi"]
        assert metrics["speedup/over_fp32"] > 0 and metrics["speedup/pair_over_fp32_lo"] > 0
    assert actual["fp32"]["tags"]["parity"].startswith("none") and "parity/cosine_mean" not in actual["fp32"]["metrics"]
    assert (
        actual["bf16"]["metrics"]["audit/parameters_share"]
        == 0
        < actual["int4_hqq"]["metrics"]["audit/parameters_share"]
    )


def test_what_is_unsupported_is_a_result(swept: Path) -> None:
    record = records(swept)["tf32"]
    assert record["status"] == "UNSUPPORTED" and all(name.startswith("time/") for name in record["metrics"])
    assert record["error"]["message"].startswith("precision.base=tfloat32 needs a GPU of compute capability 8.0")


def test_every_run_is_audited(swept: Path) -> None:
    audits = [json.loads(path.read_text()) for path in sorted(swept.glob("multirun/*/*/[0-9]*/audit.json"))]
    assert len(audits) == 4
    kinds = [set(audit["quantized"].values()) for audit in audits]
    assert kinds == [set(), set(), {"int8"}, {"int4"}]
    assert len(audits[-1]["quantized"]) == 12 * 8 and "int4 in groups of 64" in audits[-1]["kernel"]


def test_the_report_answers(swept: Path) -> None:
    (report,) = swept.glob("multirun/*/*/report/report.md")
    text = report.read_text(encoding="utf-8")
    # Which precision was faster is for the machine to say: see test_quantization_report.py.
    assert "Fastest: in packed batches" in text and "; for single pairs" in text
    assert "Spearman" in text and "Not supported on this machine: tf32" in text
    assert "Unsupported: tf32, as precision.base=tfloat32 needs" in text
    assert {path.name for path in report.parent.glob("*.svg")} == {
        "quality_speed.svg",
        "quality_pair_speed.svg",
        "quality_memory.svg",
    }


def test_mlflow_has_the_recommendations(swept: Path) -> None:
    with sqlite3.connect(swept / "mlruns" / "mlflow.db") as database:
        logged = dict(database.execute("SELECT key, value FROM latest_metrics WHERE key LIKE 'answer/%'"))
        tags = dict(database.execute("SELECT key, value FROM tags WHERE key LIKE 'answer.%'"))
    (report,) = swept.glob("multirun/*/*/report/report.md")
    text = report.read_text("utf-8").replace("\\", "")
    for regime, where in (("batches", "In packed batches"), ("pairs", "For single pairs")):
        taken = tags[f"answer.{regime}.precision"]
        assert taken in PRECISIONS and f"{where} take {taken}" in text
        assert logged[f"answer/{regime}/front"] == len(tags[f"answer.{regime}.front"].split("; "))
        assert 0 < logged[f"answer/{regime}/bytes_share"] <= 1


def test_nothing_but_unsupported_is_refused(command: Command, job: list[str], tmp_path: Path) -> None:
    done = command(["precision=fp8", *job], tmp_path / "one")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("needs a GPU of compute capability 8.9: a CPU has no fp8")
    done = command(["-m", "precision=nf4", "precision.blocks=first13", *job], tmp_path / "two")
    assert done.returncode == 2 and "precision.blocks=first13 is not a choice of this model's blocks" in done.stderr
    assert not (tmp_path / "two" / "multirun").exists()
