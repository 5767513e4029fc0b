"""What the page of a sweep shows, as plain values for its scripts: runs, configuration, environment, answer."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rwkv_sweep.comparisons import FINAL, comparisons, limited
from rwkv_sweep.errors import UserError
from rwkv_sweep.params import GROUPS
from rwkv_sweep.report.arms import differing, is_transductive
from rwkv_sweep.report.disagreement import disagreements
from rwkv_sweep.report.samples import latency_quantiles
from rwkv_sweep.results import FINISHED, Result
from rwkv_sweep.sweep_record import SweepRecord

# What the page's table and charts read; the rest (audits, other splits, stages) stays in summary.csv, which is smaller.
SHOWN = (
    *("quality/", "baseline/", "final/", "latency/", "throughput/"),
    *("memory/", "overhead/", "parity/", "speedup/", "energy/"),
)
DERIVED = ("depth",)
"""Follows from the layer, and would say the same twice."""
VALUES_TOLD = 6
"""Distinct values of a key that are told one by one."""


def page_data(record: SweepRecord, results: Sequence[Result], folders: Sequence[Path]) -> dict[str, Any]:
    """Everything, ready for JSON: only finite numbers, strings, lists and objects.

    Args:
        record: of the sweep. results: of all its runs. folders: of each result, in the same order.
    """
    keys = varied_keys(results, record.swept)
    models = [result for result in results if result.kind == "model"]
    damaged: list[str] = []
    runs = [_run(result, keys, folder, damaged) for result, folder in zip(results, folders, strict=True)]
    pairs = disagreements(results, folders, record.cwd, damaged)
    return {
        "title": record.name,
        "started": record.started or min((result.started for result in results if result.started), default=0),
        "ended": max((result.ended for result in results), default=0.0),
        "written": time.time(),
        "multirun": record.multirun,
        "missing": max(0, (record.jobs or 0) - len(models)),
        "answer": _answer(record, results),
        "keys": keys,
        "runs": runs,
        "family": _family(results),
        "pairs": pairs,
        "configuration": told(models, lambda run: run.params),
        "environment": told([run for run in models or results if run.tags], _environment),
        "notes": [*_notes(models), *damaged],
    }


def varied_keys(results: Sequence[Result], swept: Sequence[str]) -> list[str]:
    """Parameters in which the model runs differ: layer and precision first, then groups, then what was swept.

    Failed runs count too, with what they asked for; a key that only some of the records know does not.
    """
    runs = [result for result in results if result.kind == "model" and result.params]
    common = [key for key in (runs[0].params if runs else {}) if all(key in run.params for run in runs)]
    found = [key for key in differing(runs, DERIVED) if key in common]
    order = ["layer", "precision", *GROUPS, *swept]
    return sorted(found, key=lambda key: order.index(key) if key in order else len(order))


def told(runs: Sequence[Result], of: Callable[[Result], dict[str, Any]]) -> list[dict[str, Any]]:
    """Each key with its distinct values and how many runs have each; `shared` where all have the same."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in of(run).items():
            found.setdefault(key, Counter())[str(value)] += 1
    return [
        {
            "key": key,
            "shared": len(values) == 1 and sum(values.values()) == len(runs),
            "values": [[value, count] for value, count in values.most_common(VALUES_TOLD)],
            "more": max(0, len(values) - VALUES_TOLD),
        }
        for key, values in sorted(found.items())
    ]


def _run(result: Result, keys: Sequence[str], folder: Path, damaged: list[str]) -> dict[str, Any]:
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
    first = {key: value for key, value in shown.items() if not key.startswith("quality/") or key.count("/") == 1}
    params = {key: str(result.params[key]) for key in dict.fromkeys(["layer", "precision", *keys]) if _has(result, key)}
    known = {key: result.params[key] for key in ("depth", "aggregation") if _has(result, key)}
    return {
        "name": result.name,
        "kind": result.kind,
        "status": result.status,
        "params": params,
        **known,
        "transductive": result.kind == "model" and is_transductive(result),
        "metrics": first,
        "error": result.error,
        "latency": quantiles,
    }


def _has(result: Result, key: str) -> bool:
    return result.params.get(key) is not None


def _answer(record: SweepRecord, results: Sequence[Result]) -> dict[str, Any] | None:
    if record.report == "quantization":
        from rwkv_sweep.report.quantization import QUESTION as SECOND
        from rwkv_sweep.report.quantization_answer import quantization_answer

        return {"question": SECOND, "paragraphs": quantization_answer(results).split("\n\n")}
    if record.report == "aggregation_overhead":
        from rwkv_sweep.report.aggregation import QUESTION as FIRST
        from rwkv_sweep.report.conclusions import answer

        return {"question": FIRST, "paragraphs": answer(results).split("\n\n")}
    return None


def _family(results: Sequence[Result]) -> dict[str, Any]:
    """The sweep's comparisons after Holm's correction: how many, and p-values by run and reference."""
    family = comparisons(results)
    adjusted: dict[str, dict[str, float]] = {}
    for each in family:
        adjusted.setdefault(each.run, {})[each.against] = float(f"{each.adjusted:.3g}")
    return {
        "count": len(family),
        "surviving": sum(each.survives for each in family),
        "adjusted": adjusted,
        "final": FINAL,
        "limited": limited(family),
    }


def _environment(run: Result) -> dict[str, Any]:
    return {key: value for key, value in run.tags.items() if not key.startswith("note.")}


def _notes(runs: Iterable[Result]) -> list[str]:
    """What runs say of themselves, each once."""
    told = [
        f"{tag.removeprefix('note.')}: {text}"
        for run in runs
        if run.status == FINISHED
        for tag, text in run.tags.items()
        if tag.startswith("note.")
    ]
    return list(dict.fromkeys(told))
