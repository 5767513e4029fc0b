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
from rwkv_sweep.report.plain_sweep.selection import Chosen
from rwkv_sweep.report.plain_sweep.statements import Baselines, Best, Caution, Cost, OtherSplit

Raw = dict[str, Any]


def raw_records(root: Path) -> list[Raw]:
    """All records of a sweep's folder with their pairs, as they lie there."""
    actual = []
    for path in sorted(root.glob("**/result.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        pairs = path.parent / "pairs.csv"
        record["pairs"] = list(csv.DictReader(pairs.open(encoding="utf-8"))) if pairs.exists() else []
        actual.append(record)
    return actual


def models(records: list[Raw]) -> list[Raw]:
    return [record for record in records if record["kind"] == "model" and record["status"] == "FINISHED"]


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
            own, other = (spearmanr(scores[drawn], labels[drawn]).statistic for scores in (first, second))
            gaps.append(own - other)
    return float(np.std(gaps, ddof=1))


def holm(p_values: dict[Any, float]) -> dict[Any, float]:
    """By its definition: sorted, multiplied by how many are left, never falling."""
    adjusted, least = {}, 0.0
    for place, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, p * (len(p_values) - place)))
        adjusted[key] = least
    return adjusted


def family(records: list[Raw]) -> dict[tuple[str, str], float]:
    pattern = re.compile(r"(?:baseline/)?([^/]+)/delta_p")
    actual = {}
    for record in records:
        for key, p in record["metrics"].items():
            if record["status"] == "FINISHED" and (match := pattern.fullmatch(key)):
                actual[record["name"], match[1]] = p
    return actual


class Checked:
    """A sweep's findings beside its raw records. split: the first."""

    def __init__(self, root: Path, findings: Findings, split: str) -> None:
        self.records, self.findings, self.split = raw_records(root), findings, split
        self.names = {label: name for name, label in findings.labels.items()}
        self.best = max(models(self.records), key=lambda record: record["metrics"]["quality/spearman"])

    def record(self, label: str) -> Raw:
        return next(record for record in self.records if record["name"] == self.names[label])

    def alike(self) -> set[str]:
        """Names of the runs that no other is shown to beat, without the best."""
        runs = models(self.records)
        limit = norm.isf(0.05 / max(1, len(runs) - 1))
        left = set()
        for run in runs:
            gaps = {other["name"]: self._gap(other, run) for other in runs if self._gap(other, run) > 0}
            beaten = any(
                gap > limit * error_of_difference(other, run, self.split)
                for other in runs
                if (gap := gaps.get(other["name"], 0.0))
            )
            left |= set() if beaten else {run["name"]}
        return left - {self.best["name"]}

    @staticmethod
    def _gap(a: Raw, b: Raw) -> float:
        return a["metrics"]["quality/spearman"] - b["metrics"]["quality/spearman"]

    def check_best(self, statement: Best) -> None:
        metrics = self.best["metrics"]
        assert self.record(statement.label) is self.best and statement.runs == len(models(self.records))
        assert (statement.spearman.value, statement.spearman.lo, statement.spearman.hi) == tuple(
            metrics[f"quality/spearman{suffix}"] for suffix in ("", "_lo", "_hi")
        )
        assert {self.names[label] for label in statement.alike} == self.alike()
        assert f"{metrics['quality/spearman']:.3f}" in statement.text and f"on split {self.split}" in statement.text

    def check_baselines(self, statement: Baselines) -> None:
        adjusted = holm(family(self.records))
        assert statement.family == len(adjusted)
        runs, said = models(self.records), statement.text.partition(". ")[0]
        for comparison in statement.against:
            deltas = [run["metrics"][f"baseline/{comparison.name.replace(' ', '_')}/delta"] for run in runs]
            none_reaches = len(runs) > 1 and max(deltas) < 0
            assert (said.startswith("No run reaches") and comparison.name in said) == none_reaches
            name = comparison.name.replace(" ", "_")
            assert comparison.delta.value == self.best["metrics"][f"baseline/{name}/delta"]
            assert comparison.survives == (adjusted[self.best["name"], name] <= 0.05)
            own = next(record for record in self.records if record["name"] == name)["metrics"]
            assert comparison.is_nothing == (own["quality/spearman_lo"] <= 0 <= own["quality/spearman_hi"])
            side = "above" if comparison.delta.value >= 0 else "below"
            assert f"{abs(comparison.delta.value):.3f} {side} {comparison.name}" in statement.text

    def check_cost(self, statement: Cost) -> None:
        """In these sweeps speeds are interleaved with final-layer inference, or not compared at all."""
        among = [run for run in models(self.records) if run["name"] in self.alike() | {self.best["name"]}]
        for regime in statement.regimes:
            key = "overhead/batch_ratio" if "batches" in regime.where else "overhead/latency_ratio"
            times = {run["name"]: 1.0 if run["params"]["layer"] == "final" else run["metrics"][key] for run in among}
            quickest = min(times, key=times.__getitem__)
            assert regime.among == len(among) and times[self.names[regime.labels[0]]] == times[quickest]
            if regime.ratio is None:
                assert regime.best in regime.labels
            else:
                assert regime.ratio.value == pytest.approx(times[self.best["name"]] / times[quickest])
                assert regime.ratio.lo > 1
                assert f"{regime.ratio.value:.2f} times the speed of {regime.best}" in statement.text
        depths = {run["name"]: run["params"]["depth"] for run in among}
        assert statement.blocks == min(depths.values())
        assert {self.names[label] for label in statement.fewest} == {
            name for name, depth in depths.items() if depth == statement.blocks
        }

    def check_other_split(self, statement: OtherSplit) -> None:
        name = re.sub("[^a-z0-9_]", "_", statement.split.replace("[:", "_first_").replace(":]", "_on")).rstrip("_")
        key = f"quality/{name}"
        assert self.record(statement.label) is self.best and statement.chosen_on == self.split
        assert statement.spearman.value == self.best["metrics"][f"{key}/spearman"]
        for comparison in statement.against:
            other = next(record for record in self.records if record["name"] == comparison.name.replace(" ", "_"))
            labels = column(self.best, statement.split, "label")
            own, theirs = (
                spearmanr(column(record, statement.split, "score"), labels).statistic for record in (self.best, other)
            )
            assert comparison.delta.value == pytest.approx(own - theirs)
            error = error_of_difference(self.best, other, statement.split)
            assert (comparison.delta.hi - comparison.delta.lo) / (2 * 1.96) == pytest.approx(error, rel=0.2)

    def check_caution(self, statement: Caution) -> None:
        metrics = self.best["metrics"]
        assert statement.pairs == metrics["quality/pairs"] and ("Only" in statement.text) == (statement.pairs < 100)
        assert statement.no_signal == all(
            run["metrics"]["quality/spearman_lo"] <= 0 <= run["metrics"]["quality/spearman_hi"]
            for run in models(self.records)
        )
        assert ("optimistic" in statement.text) == (len(models(self.records)) > 1 and not statement.held_out)


def check_chosen(checked: Checked, statement: Chosen) -> None:
    """The highest on the split to choose on, and its figure on the one that is scored."""
    candidates = [run for run in models(checked.records) if "select/spearman" in run["metrics"]]
    best = max(candidates, key=lambda run: run["metrics"]["select/spearman"])
    assert checked.record(statement.label) is best and statement.among == len(candidates)
    assert statement.value == best["metrics"]["select/spearman"]
    assert statement.spearman.value == best["metrics"]["quality/spearman"]
    assert statement.most.value == checked.best["metrics"]["quality/spearman"]
    if statement.loss is not None:
        labels = column(best, checked.split, "label")
        own, top = (spearmanr(column(run, checked.split, "score"), labels).statistic for run in (best, checked.best))
        assert statement.loss.value == pytest.approx(top - own)


CHECKS: dict[type, Callable[[Checked, Any], None]] = {
    Best: Checked.check_best,
    Baselines: Checked.check_baselines,
    Cost: Checked.check_cost,
    OtherSplit: Checked.check_other_split,
    Caution: Checked.check_caution,
    Chosen: check_chosen,
}
