"""The record of one run, and how it is stored on disk.

A run's folder holds `result.json` (status, params, metrics, tags), `pairs.csv` (each pair's label and score) and
`latency_ms.csv` (each timed pair). The record is written first; MLflow gets it second.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError
from rwkv_sweep.records import record_checks as checks
from rwkv_sweep.records.own_files import AUDIT_FILE as AUDIT_FILE
from rwkv_sweep.records.own_files import CKA_FILE as CKA_FILE
from rwkv_sweep.records.own_files import LATENCY_FILE as LATENCY_FILE
from rwkv_sweep.records.own_files import OVERHEAD_FILE as OVERHEAD_FILE
from rwkv_sweep.records.own_files import PAGE_FILE as PAGE_FILE
from rwkv_sweep.records.own_files import PAIRS_FILE as PAIRS_FILE
from rwkv_sweep.records.own_files import RESULT_FILE as RESULT_FILE
from rwkv_sweep.records.own_files import RUN_FILES
from rwkv_sweep.records.own_files import SEARCH_FILE as SEARCH_FILE
from rwkv_sweep.records.own_files import SUMMARY_FILE as SUMMARY_FILE
from rwkv_sweep.records.own_files import SUMMARY_TABLE as SUMMARY_TABLE
from rwkv_sweep.records.own_files import THROUGHPUT_FILE as THROUGHPUT_FILE
from rwkv_sweep.records.record_checks import read_record
from rwkv_sweep.utils.files import file_sha256, write_atomically
from rwkv_sweep.utils.redaction import redact_all

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
UNSUPPORTED = "UNSUPPORTED"
"""What was asked for is valid, but the device or what is installed cannot do it: a finding, not a failure."""
UNDEFINED = "UNDEFINED"
"""It ran, but what was asked for does not exist with these data, such as a correlation of equal scores: a finding."""
STATUSES = (FINISHED, FAILED, KILLED, UNSUPPORTED, UNDEFINED)
FINDINGS = (FINISHED, UNSUPPORTED, UNDEFINED)
"""Statuses of runs that did not go wrong; a sweep of these alone exits 0."""
REPEATABLE = (FINISHED, UNDEFINED)
"""Statuses that the same run on the same data would only reach again, so that a resumed sweep does not repeat it."""

MODEL, BASELINE = "model", "baseline"
DAMAGED = "DamagedRecord"
"""Kind of the error of what stands for a record that cannot be read."""
_FIELDS: dict[str, checks.Check] = {
    "name": checks.text,
    "kind": checks.one_of(MODEL, BASELINE),
    "status": checks.one_of(*STATUSES),
    "params": checks.dict_of(checks.scalar),
    "metrics": checks.dict_of(checks.number),
    "tags": checks.dict_of(checks.text),
    "error": checks.optional(checks.dict_of(checks.text, "message")),
    "started": checks.time,
    "ended": checks.time,
    "id": checks.identifier,
    "key": checks.identifier,
}


@dataclass(frozen=True)
class Result:
    """What one run was, and what came out.

    Attributes:
        name: unique within a sweep: what was swept, or the baseline's name.
        kind: `model` or `baseline`.
        status: `FINISHED`, `FAILED` or `KILLED`, MLflow's words, or `UNSUPPORTED` or `UNDEFINED`.
        params: flat, what was asked for.
        metrics: names as in docs/metrics.md, units in the names.
        tags: what it ran on: versions, device, kernel, fingerprints, notes.
        error: kind, message (one line) and, of what nobody foresaw, traceback of a run that did not finish.
        started, ended: seconds since the epoch.
        id: of this attempt; the same wherever its folder is moved or imported.
        key: what was asked for, of what content, by which code; equal in repetitions, see `sweep.runs.run_key`.
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
    id: str = ""
    key: str = ""

    @property
    def is_damaged(self) -> bool:
        """Whether it only stands for a record that cannot be read."""
        return self.error is not None and self.error.get("kind") == DAMAGED

    def save(self, folder: Path) -> None:
        """Write `result.json` into `folder`, whole or not at all."""
        _write_of_run(folder, RESULT_FILE, json.dumps(self._without_secrets(), indent=2, sort_keys=True) + "\n")

    def _without_secrets(self) -> dict[str, Any]:
        texts = {"name": self.name, "params": self.params, "tags": self.tags, "error": self.error}
        return {**asdict(self), **redact_all(texts)}

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read `result.json` of `folder`.

        Raises:
            UserError: it is damaged.
            FileNotFoundError: there is none.
        """
        path = folder / RESULT_FILE
        result = cls(**read_record(path, _FIELDS, ("name", "kind", "status", "params")))
        # Records of versions before there were ids: their own content identifies them.
        return result if result.id else replace(result, id=file_sha256(path)[:32])


def _write_of_run(folder: Path, name: str, text: str) -> None:
    """Write a file of a run; nothing is logged, moved or removed that is not in `RUN_FILES`."""
    if name not in RUN_FILES:
        raise ValueError(f"{name} is not in own_files.RUN_FILES")
    write_atomically(folder / name, text)


def write_pairs(folder: Path, rows: Iterable[tuple[str, int, float, float]]) -> None:
    """Write `pairs.csv`: split, row within the split (from 0), label, score (cosine or overlap)."""
    _write_csv(folder, PAIRS_FILE, ("split", "row", "label", "score"), rows)


def write_audit(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `audit.json`: what was quantized, what was left alone and why."""
    _write_of_run(folder, AUDIT_FILE, json.dumps(record, indent=1) + "\n")


def read_scores(folder: Path, split: str) -> list[float]:
    """Scores of one split from `pairs.csv`, in row order.

    Raises:
        UserError: the file is damaged.
        OSError: it cannot be read.
    """
    path = folder / PAIRS_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [float(row["score"]) for row in csv.DictReader(file) if row["split"] == split]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def write_latency(folder: Path, samples_ms: Sequence[float]) -> None:
    """Write `latency_ms.csv`: one row per timed pair, in the order they were timed."""
    _write_csv(folder, LATENCY_FILE, ("sample", "latency_ms"), enumerate(samples_ms))


def write_throughput(folder: Path, rates: Sequence[float], reference: Sequence[float]) -> None:
    """Write `throughput.csv`: one row per timed pass, with the rate of the machine's reference GEMM beside it."""
    rows = ((number, rate, machine) for number, (rate, machine) in enumerate(zip(rates, reference, strict=True)))
    _write_csv(folder, THROUGHPUT_FILE, ("pass", "tokens_per_s", "reference_gflop_per_s"), rows)


def write_overhead(folder: Path, samples_ms: Mapping[str, Sequence[float]]) -> None:
    """Write `overhead_ms.csv`: one row per sample, with what was timed (`latency_this`, `batch_final`, ...)."""
    rows = [
        (name, round_number, value) for name, values in samples_ms.items() for round_number, value in enumerate(values)
    ]
    _write_csv(folder, OVERHEAD_FILE, ("timed", "round", "ms"), rows)


def write_cka(folder: Path, layers: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """Write `cka.csv`: linear CKA of each two layers, a row and a column for each."""
    rows = [(name, *row) for name, row in zip(layers, values, strict=True)]
    _write_csv(folder, CKA_FILE, ("layer", *layers), rows)


def write_search(folder: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write `search.csv`: a row for each configuration, the best on the split to choose on first."""
    header = ("overrides", "depth", "dimension", "chosen_on", "spearman", "spearman_lo", "spearman_hi")
    _write_csv(folder, SEARCH_FILE, header, rows)


def _write_csv(folder: Path, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write_of_run(folder, name, text.getvalue())
