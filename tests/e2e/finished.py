"""A command that has ended and what it left: in its folder, in MLflow, on the terminal."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Command = Callable[..., "subprocess.CompletedProcess[str]"]

BASELINES = ("word_overlap", "word_vectors")
QUALITY = ("spearman", "spearman_lo", "spearman_hi", "pearson", "average_precision", "auc", "f1", "accuracy")
BASELINE_METRICS = {
    *(f"quality/{name}" for name in QUALITY),
    *(f"quality/all/{name}" for name in QUALITY),
    *(f"latency/{name}_ms" for name in ("mean", "p50", "p95", "p99")),
}
MODEL_METRICS = BASELINE_METRICS | {
    "throughput/tokens_per_s",
    "throughput/pairs_per_s",
    "memory/weights_mib",
    "memory/process_peak_mib",
    *(f"baseline/{name}/delta" for name in BASELINES),
}


@dataclass(frozen=True)
class Sweep:
    """A command that has ended, its folder, and what MLflow has of it."""

    done: subprocess.CompletedProcess[str]
    cwd: Path

    @property
    def root(self) -> Path:
        """The one output folder."""
        (actual,) = [*self.cwd.glob("multirun/*/*"), *self.cwd.glob("outputs/*/*")]
        return actual

    def runs(self, kind: str) -> list[Any]:
        """MLflow's runs of one kind, in the order of their names."""
        client = mlflow_client(self.cwd)
        (experiment,) = [experiment for experiment in client.search_experiments() if experiment.name == "rwkv_sweep"]
        actual = client.search_runs([experiment.experiment_id], f"tags.`rwkv_sweep.kind` = '{kind}'")
        return sorted(actual, key=lambda run: str(run.info.run_name))

    def only(self, kind: str) -> Any:
        (actual,) = self.runs(kind)
        return actual

    def results(self) -> dict[str, Any]:
        """Every result.json by the name of its run."""
        read = [json.loads(path.read_text()) for path in self.root.rglob("result.json")]
        return {content["name"]: content for content in read}


def mlflow_client(cwd: Path) -> Any:
    from rwkv_sweep.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{cwd}/mlruns/mlflow.db")


def without_tracking_time(result: dict[str, Any]) -> dict[str, float]:
    """How long MLflow took to take a run, MLflow cannot know."""
    return {key: value for key, value in result["metrics"].items() if key != "time/tracking_s"}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without(job: Sequence[str], extra: Sequence[str]) -> list[str]:
    """The job's overrides but those that `extra` gives anew."""
    keys = {override.partition("=")[0] for override in extra}
    return [override for override in job if override.partition("=")[0] not in keys]
