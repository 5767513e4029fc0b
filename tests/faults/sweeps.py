"""A sweep of 8 or 24 short runs, how it is started, and what must be true of it when it is complete."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.cli.verbs import run_verb

RUNS = {"small": 8, "whole": 24}
SWEPT = {
    "small": ["layer=0,3", "pooling=mean,last", "precision=fp32,bf16"],
    "whole": ["layer=0,1,2,3", "pooling=mean,last,max", "precision=fp32,bf16"],
}
QUALITY = ("quality/", "baseline/", "final/", "parity/", "data/")
"""What repeats to the last digit; times and memory do not."""


def arguments(swept: list[str], model: Path, pairs: Path) -> list[str]:
    return [
        "-m",
        *swept,
        "model=local",
        f"model.path={model}",
        "model.tokenizer=bytes",
        "dataset=pairs",
        f"dataset.path={pairs}",
        "device=cpu",
        "device.threads=1",
        "baselines=[word_overlap]",
        "bootstrap=20",
        "measure.latency_pairs=1",
        "measure.warmup_pairs=0",
        "measure.throughput=false",
    ]


@dataclass(frozen=True)
class Undisturbed:
    """A sweep that nothing befell. arguments: its command's. quality: its figures by run. seconds: what it took."""

    arguments: list[str]
    quality: dict[str, dict[str, float]]
    seconds: float


class Streams:
    """What a command in this process wrote, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def of(self, verb: str, *given: object) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = run_verb(verb, [str(argument) for argument in given])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err


def records(root: Path) -> dict[str, dict[str, Any]]:
    """Every record of a sweep's folder by name; none is there twice."""
    read = [
        json.loads(path.read_text())
        for pattern in ("*/", "baselines/*/")
        for path in root.glob(pattern + "result.json")
    ]
    assert len({record["name"] for record in read}) == len(read)
    return {record["name"]: record for record in read}


def quality(actual: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By run, the figures that repeat."""
    return {
        name: {key: value for key, value in record["metrics"].items() if key.startswith(QUALITY)}
        for name, record in actual.items()
    }


def tracked(cwd: Path) -> list[Any]:
    """All runs that MLflow has; none before a sweep has made its experiment."""
    from rwkv_sweep.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{cwd}/mlruns/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments() if experiment.name == "rwkv_sweep"]
    return list(client.search_runs(ids, max_results=5000)) if ids else []


def check_complete(cwd: Path, root: Path, undisturbed: dict[str, dict[str, float]]) -> None:
    """Each configuration finished exactly once, on disk and in MLflow; nothing RUNNING; the same quality figures."""
    actual = records(root)
    assert actual.keys() == undisturbed.keys()
    assert {record["status"] for record in actual.values()} == {"FINISHED"}
    assert len({record["key"] for record in actual.values()}) == len(actual)
    assert quality(actual) == undisturbed
    runs = tracked(cwd)
    assert [run.info.run_id for run in runs if run.info.status == "RUNNING"] == []
    children = [run for run in runs if run.data.tags["rwkv_sweep.kind"] != "sweep"]
    finished = Counter(run.data.tags["rwkv_sweep.key"] for run in children if run.info.status == "FINISHED")
    assert finished == Counter(record["key"] for record in actual.values())
    by_key = {run.data.tags["rwkv_sweep.key"]: run for run in children if run.info.status == "FINISHED"}
    for record in actual.values():
        metrics = by_key[record["key"]].data.metrics
        assert {key: value for key, value in metrics.items() if key.startswith(QUALITY)} == undisturbed[record["name"]]
    with (root / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["name"] for row in rows) == Counter(actual.keys())
    assert {row["status"] for row in rows} == {"FINISHED"}


def latest_root(cwd: Path) -> Path:
    """The folder of the sweep that was started last; the folders' names are their times."""
    return max(cwd.glob("multirun/*/*"))
