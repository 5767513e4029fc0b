"""Statements of an answer recomputed from the raw records of a sweep.

Nothing here uses the code that made the statements: `result.json` and `pairs.csv` are read as they lie.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.plain_sweep.statements import Baselines, Best, Caution, Cost, OtherSplit

Raw = dict[str, Any]


def raw_records(root: Path) -> list[Raw]:
    """All records of a sweep's folder with their pairs, as they lie there."""
    found = []
    for path in sorted(root.glob("**/result.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        pairs = path.parent / "pairs.csv"
        record["pairs"] = list(csv.DictReader(pairs.open(encoding="utf-8"))) if pairs.exists() else []
        found.append(record)
    return found


def models(records: list[Raw]) -> list[Raw]:
    return [each for each in records if each["kind"] == "model" and each["status"] == "FINISHED"]


def column(record: Raw, split: str, name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in record["pairs"] if row["split"] == split])


def error_of_difference(a: Raw, b: Raw, split: str) -> float:
    """Standard error of the difference of two runs' Spearman, by drawing pairs and ranking them anew each time."""
    labels, first, second = column(a, split, "label"), column(a, split, "score"), column(b, split, "score")
    random = np.random.default_rng(1)
    gaps = []
    for _ in range(400):
        drawn = random.integers(0, len(labels), len(labels))
        if np.ptp(labels[drawn]) > 0:
            own, other = (spearmanr(each[drawn], labels[drawn]).statistic for each in (first, second))
            gaps.append(own - other)
    return float(np.std(gaps, ddof=1))


def holm(p_values: dict[Any, float]) -> dict[Any, float]:
    """By its definition: sorted, multiplied by how many are left, never falling."""
    adjusted, least = {}, 0.0
    for place, (key, p) in enumerate(sorted(p_values.items(), key=lambda each: each[1])):
        least = max(least, min(1.0, p * (len(p_values) - place)))
        adjusted[key] = least
    return adjusted


def family(records: list[Raw]) -> dict[tuple[str, str], float]:
    pattern = re.compile(r"(?:baseline/)?([^/]+)/delta_p")
    found = {}
    for record in records:
        for key, p in record["metrics"].items():
            if record["status"] == "FINISHED" and (match := pattern.fullmatch(key)):
                found[record["name"], match[1]] = p
    return found


class Checked:
    """A sweep's findings beside its raw records. split: the first."""

    def __init__(self, root: Path, findings: Findings, split: str) -> None:
        self.records, self.findings, self.split = raw_records(root), findings, split
        self.names = {label: name for name, label in findings.labels.items()}
        self.best = max(models(self.records), key=lambda each: each["metrics"]["quality/spearman"])

    def record(self, label: str) -> Raw:
        return next(each for each in self.records if each["name"] == self.names[label])

    def alike(self) -> set[str]:
        """Names of the runs that no other is shown to beat, without the best."""
        runs = models(self.records)
        limit = norm.isf(0.05 / max(1, len(runs) - 1))
        left = set()
        for run in runs:
            gaps = {each["name"]: self._gap(each, run) for each in runs if self._gap(each, run) > 0}
            beaten = any(
                gap > limit * error_of_difference(each, run, self.split)
                for each in runs
                if (gap := gaps.get(each["name"], 0.0))
            )
            left |= set() if beaten else {run["name"]}
        return left - {self.best["name"]}

    @staticmethod
    def _gap(a: Raw, b: Raw) -> float:
        return a["metrics"]["quality/spearman"] - b["metrics"]["quality/spearman"]

    def check_best(self, told: Best) -> None:
        metrics = self.best["metrics"]
        assert self.record(told.label) is self.best and told.runs == len(models(self.records))
        assert (told.spearman.value, told.spearman.lo, told.spearman.hi) == tuple(
            metrics[f"quality/spearman{suffix}"] for suffix in ("", "_lo", "_hi")
        )
        assert {self.names[label] for label in told.alike} == self.alike()
        assert f"{metrics['quality/spearman']:.3f}" in told.text and f"on split {self.split}" in told.text

    def check_baselines(self, told: Baselines) -> None:
        adjusted = holm(family(self.records))
        assert told.family == len(adjusted)
        for each in told.against:
            name = each.name.replace(" ", "_")
            assert each.delta.value == self.best["metrics"][f"baseline/{name}/delta"]
            assert each.survives == (adjusted[self.best["name"], name] <= 0.05)
            own = next(record for record in self.records if record["name"] == name)["metrics"]
            assert each.is_nothing == (own["quality/spearman_lo"] <= 0 <= own["quality/spearman_hi"])
            assert (
                f"{abs(each.delta.value):.3f} {'above' if each.delta.value >= 0 else 'below'} {each.name}" in told.text
            )

    def check_cost(self, told: Cost) -> None:
        """In these sweeps speeds are interleaved with final-layer inference, or not compared at all."""
        among = [run for run in models(self.records) if run["name"] in self.alike() | {self.best["name"]}]
        for each in told.regimes:
            key = "overhead/batch_ratio" if "batches" in each.where else "overhead/latency_ratio"
            times = {run["name"]: 1.0 if run["params"]["layer"] == "final" else run["metrics"][key] for run in among}
            quickest = min(times, key=times.__getitem__)
            assert each.among == len(among) and times[self.names[each.labels[0]]] == times[quickest]
            if each.ratio is None:
                assert each.best in each.labels
            else:
                assert each.ratio.value == pytest.approx(times[self.best["name"]] / times[quickest])
                assert each.ratio.lo > 1
                assert f"{each.ratio.value:.2f} times the speed of {each.best}" in told.text
        depths = {run["name"]: run["params"]["depth"] for run in among}
        assert told.blocks == min(depths.values())
        assert {self.names[label] for label in told.fewest} == {
            name for name, depth in depths.items() if depth == told.blocks
        }

    def check_other_split(self, told: OtherSplit) -> None:
        key = (
            f"quality/{re.sub('[^a-z0-9_]', '_', told.split.replace('[:', '_first_').replace(':]', '_on')).rstrip('_')}"
        )
        assert self.record(told.label) is self.best and told.chosen_on == self.split
        assert told.spearman.value == self.best["metrics"][f"{key}/spearman"]
        for each in told.against:
            other = next(record for record in self.records if record["name"] == each.name.replace(" ", "_"))
            labels = column(self.best, told.split, "label")
            own, theirs = (
                spearmanr(column(record, told.split, "score"), labels).statistic for record in (self.best, other)
            )
            assert each.delta.value == pytest.approx(own - theirs)
            error = error_of_difference(self.best, other, told.split)
            assert (each.delta.hi - each.delta.lo) / (2 * 1.96) == pytest.approx(error, rel=0.2)

    def check_caution(self, told: Caution) -> None:
        metrics = self.best["metrics"]
        assert told.pairs == metrics["quality/pairs"] and ("Only" in told.text) == (told.pairs < 100)
        assert told.no_signal == all(
            run["metrics"]["quality/spearman_lo"] <= 0 <= run["metrics"]["quality/spearman_hi"]
            for run in models(self.records)
        )
        assert ("optimistic" in told.text) == (len(models(self.records)) > 1 and not told.held_out)


CHECKS: dict[type, Callable[[Checked, Any], None]] = {
    Best: Checked.check_best,
    Baselines: Checked.check_baselines,
    Cost: Checked.check_cost,
    OtherSplit: Checked.check_other_split,
    Caution: Checked.check_caution,
}
