"""What the page of a sweep shows, as plain values for its scripts: runs, configuration, environment, answer."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.records.samples import latency_quantiles
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.charts.overview import page_charts, runs_of
from rwkv_sweep.report.charts.style import INKS, theme
from rwkv_sweep.report.common.comparisons import comparisons, limited
from rwkv_sweep.report.common.disagreement import disagreements
from rwkv_sweep.report.common.run_groups import is_transductive
from rwkv_sweep.report.common.splits import spearman_key, split_names
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.stats.multiple_testing import FINAL

# What the page's table and charts read; the rest (audits, other splits, stages) stays in summary.csv, which is smaller.
SHOWN = (
    *("quality/", "baseline/", "final/", "latency/", "throughput/"),
    *("memory/", "overhead/", "parity/", "speedup/", "energy/"),
    *("representation/", "probe/"),
)
VALUES_LISTED = 6
"""Distinct values of a key that are listed one by one."""


def page_data(record: SweepRecord, findings: Findings) -> dict[str, Any]:
    """Everything, ready for JSON: only finite numbers, strings, lists and objects.

    Args:
        record: of the sweep. findings: what was concluded from its records.
    """
    results, folders = findings.records.results, findings.records.folders
    models = [result for result in results if result.kind == "model"]
    damaged: list[str] = []
    runs = [_run(result, findings, folder, damaged) for result, folder in zip(results, folders, strict=True)]
    pairs = disagreements(results, folders, record.cwd, damaged)
    splits = split_names(results)
    return {
        **_charts(findings, runs),
        "title": record.name,
        "started": record.started or min((result.started for result in results if result.started), default=0),
        "ended": max((result.ended for result in results), default=0.0),
        "written": time.time(),
        "multirun": record.multirun,
        "missing": max(0, (record.jobs or 0) - len(models)),
        "answer": _answer(findings),
        "cards": [asdict(card) for card in findings.cards],
        "splits": [{"name": name, "key": spearman_key(name)} for name in splits],
        "keys": findings.keys,
        "runs": runs,
        "family": _family(results),
        "pairs": pairs,
        "configuration": values_by_key(models, lambda run: run.params),
        "environment": values_by_key([run for run in models or results if run.tags], _environment),
        "notes": [*_notes(models), *damaged],
    }


def _charts(findings: Findings, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The charts, what all of them show of each run by its index, and their look on both grounds."""
    drawn = runs_of(findings)
    quantiles = {i: run.pop("latency") for i, run in enumerate(runs)}
    fields = [drawn.fields(run) if run.kind == "model" else None for run in drawn.results]
    charts = [asdict(chart) for chart in page_charts(findings, drawn, quantiles)]
    return {"charts": charts, "fields": fields, "themes": {ground: theme(ground) for ground in INKS}}


def values_by_key(runs: Sequence[Result], of: Callable[[Result], dict[str, Any]]) -> list[dict[str, Any]]:
    """Each key with its distinct values and how many runs have each; `shared` where all have the same."""
    counts: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in of(run).items():
            counts.setdefault(key, Counter())[str(value)] += 1
    return [
        {
            "key": key,
            "shared": len(values) == 1 and sum(values.values()) == len(runs),
            "values": [[value, count] for value, count in values.most_common(VALUES_LISTED)],
            "more": max(0, len(values) - VALUES_LISTED),
        }
        for key, values in sorted(counts.items())
    ]


def _run(result: Result, findings: Findings, folder: Path, damaged: list[str]) -> dict[str, Any]:
    try:
        quantiles = latency_quantiles(folder)
    except UserError as error:
        quantiles = []
        damaged.append(str(error))
    shown = {
        key: float(f"{value:.7g}")
        for key, value in result.metrics.items()
        if key.startswith(SHOWN) and math.isfinite(value)
    }
    kept = {key: value for key, value in shown.items() if _is_shown_quality(key)}
    named = dict.fromkeys(["layer", "precision", *findings.keys])
    params = {key: str(result.params[key]) for key in named if _has(result, key)}
    known = {key: result.params[key] for key in ("depth", "aggregation") if _has(result, key)}
    return {
        "name": result.name,
        "label": findings.labels.get(result.name, result.name),
        "kind": result.kind,
        "status": result.status,
        "params": params,
        **known,
        "transductive": result.kind == "model" and is_transductive(result),
        "metrics": kept,
        "error": result.error,
        "latency": quantiles,
    }


def _is_shown_quality(key: str) -> bool:
    """Of the splits, Spearman with its interval alone."""
    return not key.startswith("quality/") or key.count("/") == 1 or "/spearman" in key


def _has(result: Result, key: str) -> bool:
    return result.params.get(key) is not None


def _answer(findings: Findings) -> dict[str, Any]:
    sections = [{"name": name, "sentences": sentences} for name, sentences in findings.answer.bullets()]
    return {"question": findings.answer.question, "sections": sections}


def _family(results: Sequence[Result]) -> dict[str, Any]:
    """The sweep's comparisons after Holm's correction: how many, and p-values by run and reference."""
    family = comparisons(results)
    adjusted: dict[str, dict[str, float]] = {}
    for comparison in family:
        adjusted.setdefault(comparison.run, {})[comparison.against] = float(f"{comparison.adjusted:.3g}")
    return {
        "count": len(family),
        "surviving": sum(comparison.survives for comparison in family),
        "adjusted": adjusted,
        "final": FINAL,
        "limited": limited(family),
    }


def _environment(run: Result) -> dict[str, Any]:
    return {key: value for key, value in run.tags.items() if not key.startswith("note.")}


def _notes(runs: Iterable[Result]) -> list[str]:
    """The notes that runs recorded, each once."""
    lines = [
        f"{tag.removeprefix('note.')}: {text}"
        for run in runs
        if run.status == FINISHED
        for tag, text in run.tags.items()
        if tag.startswith("note.")
    ]
    return list(dict.fromkeys(lines))
