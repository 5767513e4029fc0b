"""A sweep of 8 or 24 short runs, how it is started, and what must be true of it when it is complete."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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


@dataclass
class Ended:
    """A command that has ended. code: negative for the signal that ended it. output: what it wrote to both streams."""

    code: int
    seconds: float
    output: str


@dataclass(frozen=True)
class Undisturbed:
    """A sweep that nothing befell. arguments: its command's. quality: its figures by run. seconds: what it took."""

    arguments: list[str]
    quality: dict[str, dict[str, float]]
    seconds: float


@dataclass(frozen=True)
class Conditions:
    """What a command meets.

    signal: what ends it at the moment given. remove: a folder that is removed then in place of a signal. umask: its
    own. file_size: the largest file it may write, in bytes. unread: streams whose reader is gone. log: where its output
    goes, if not into its working folder.
    """

    signal: int = signal.SIGKILL
    remove: str | None = None
    umask: int | None = None
    file_size: int | None = None
    unread: tuple[str, ...] = ()
    log: str | None = None


class Commands:
    """Starts commands of this program that need no time for imports, see `forking`."""

    def __init__(self, environment: dict[str, str], prefix: Sequence[str] = ()) -> None:
        """prefix: a program that starts them, with its own arguments, such as setpriv."""
        script = Path(__file__).with_name("forking.py")
        self._process = subprocess.Popen(
            [*prefix, sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def run(
        self,
        arguments: list[str],
        cwd: Path,
        kill_after: float | None = None,
        after_records: int = 0,
        environment: dict[str, str] | None = None,
        conditions: Conditions = Conditions(),
    ) -> Ended:
        """kill_after: seconds after its start, or after it has added records, when SIGKILL ends it; None: never.
        environment: variables beside those of all commands."""
        cwd.mkdir(exist_ok=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"arguments": arguments, "cwd": str(cwd), "kill_after": kill_after, "after_records": after_records}
        request |= {"environment": environment or {}, "conditions": asdict(conditions)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def records(root: Path) -> dict[str, dict[str, Any]]:
    """Every record of a sweep's folder by name; none is there twice."""
    read = [
        json.loads(path.read_text())
        for pattern in ("*/", "baselines/*/")
        for path in root.glob(pattern + "result.json")
    ]
    assert len({record["name"] for record in read}) == len(read)
    return {record["name"]: record for record in read}


def quality(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By run, the figures that repeat."""
    return {
        name: {key: value for key, value in record["metrics"].items() if key.startswith(QUALITY)}
        for name, record in found.items()
    }


def tracked(cwd: Path) -> list[Any]:
    """All runs that MLflow has."""
    from rwkv_sweep.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{cwd}/mlruns/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "rwkv_sweep"]
    return list(client.search_runs([experiment.experiment_id], max_results=5000))


def check_complete(cwd: Path, root: Path, undisturbed: dict[str, dict[str, float]]) -> None:
    """Each configuration finished exactly once, on disk and in MLflow; nothing RUNNING; the same quality figures."""
    found = records(root)
    assert found.keys() == undisturbed.keys()
    assert {record["status"] for record in found.values()} == {"FINISHED"}
    assert len({record["key"] for record in found.values()}) == len(found)
    assert quality(found) == undisturbed
    runs = tracked(cwd)
    assert [run.info.run_id for run in runs if run.info.status == "RUNNING"] == []
    children = [run for run in runs if run.data.tags["rwkv_sweep.kind"] != "sweep"]
    finished = Counter(run.data.tags["rwkv_sweep.key"] for run in children if run.info.status == "FINISHED")
    assert finished == Counter(record["key"] for record in found.values())
    by_key = {run.data.tags["rwkv_sweep.key"]: run for run in children if run.info.status == "FINISHED"}
    for record in found.values():
        metrics = by_key[record["key"]].data.metrics
        assert {key: value for key, value in metrics.items() if key.startswith(QUALITY)} == undisturbed[record["name"]]
    with (root / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["name"] for row in rows) == Counter(found.keys())
    assert {row["status"] for row in rows} == {"FINISHED"}


def latest_root(cwd: Path) -> Path:
    """The folder of the sweep that was started last; the folders' names are their times."""
    return max(cwd.glob("multirun/*/*"))
