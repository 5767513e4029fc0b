"""The record of one run, and how it lies on disk.

A run's folder holds `result.json` (status, params, metrics, tags), `pairs.csv` (each pair's label and score) and
`latency_ms.csv` (each timed pair). The record is written first; MLflow gets it second.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULT_FILE = "result.json"
PAIRS_FILE = "pairs.csv"
LATENCY_FILE = "latency_ms.csv"
OVERHEAD_FILE = "overhead_ms.csv"

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


@dataclass(frozen=True)
class Result:
    """What one run was, and what came out.

    Attributes:
        name: unique within a sweep: what was swept, or the baseline's name.
        kind: `model` or `baseline`.
        status: `FINISHED`, `FAILED` or `KILLED`, MLflow's words.
        params: flat, what was asked for.
        metrics: names as in docs/metrics.md, units in the names.
        tags: what it ran on: versions, device, kernel, fingerprints, notes.
        error: kind and message of a failure.
        started, ended: seconds since the epoch.
    """

    name: str
    kind: str
    status: str
    params: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    error: dict[str, str] | None = None
    started: float = 0.0
    ended: float = 0.0

    def save(self, folder: Path) -> None:
        """Write `result.json` into `folder`, whole or not at all."""
        write_atomically(folder / RESULT_FILE, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read `result.json` of `folder`."""
        return cls(**json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))


def write_atomically(path: Path, text: str) -> None:
    """Write through a temporary file in the same folder, so that no reader ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_pairs(folder: Path, rows: Iterable[tuple[str, int, float, float]]) -> None:
    """Write `pairs.csv`: split, row within the split (from 0), label, score (cosine or overlap)."""
    _write_csv(folder / PAIRS_FILE, ("split", "row", "label", "score"), rows)


def read_scores(folder: Path, split: str) -> list[float]:
    """Scores of one split from `pairs.csv`, in row order."""
    with (folder / PAIRS_FILE).open(encoding="utf-8", newline="") as file:
        return [float(row["score"]) for row in csv.DictReader(file) if row["split"] == split]


def write_latency(folder: Path, samples_ms: Sequence[float]) -> None:
    """Write `latency_ms.csv`: one row per timed pair, in the order they were timed."""
    _write_csv(folder / LATENCY_FILE, ("sample", "latency_ms"), enumerate(samples_ms))


def write_overhead(folder: Path, samples_ms: Mapping[str, Sequence[float]]) -> None:
    """Write `overhead_ms.csv`: one row per sample, with what was timed (`latency_this`, `batch_final`, ...)."""
    rows = [(name, turn, value) for name, values in samples_ms.items() for turn, value in enumerate(values)]
    _write_csv(folder / OVERHEAD_FILE, ("timed", "turn", "ms"), rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
