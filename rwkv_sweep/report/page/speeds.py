"""What the charts of a page need to know of noise: which runs differ in Spearman, and which in speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.speeds.speeds import REGIMES, speeds

MOST_COMPARED = 200
"""Most runs for which the page stores which is shown to be better than which: a digit for each two."""


def page_rankings(findings: Findings) -> list[dict[str, Any]]:
    """For each set of pairs: `runs`, indices of all results by falling Spearman, and `better`, for each of them a row
    of 0 and 1: 1 where it is shown to be better than the run of that column; no rows where there are more runs than
    `MOST_COMPARED`."""
    places = {id(run): index for index, run in enumerate(findings.records.results)}
    shown = []
    for ranking in findings.ranked:
        rows = ["".join("01"[int(better)] for better in row) for row in ranking.better_KK]
        runs = [places[id(run)] for run in ranking.runs]
        shown.append({"runs": runs, "better": rows if len(runs) <= MOST_COMPARED else []})
    return shown


def page_speeds(results: Sequence[Result]) -> dict[str, Any]:
    """For each regime, by the metric of its raw figure: `reference`, `margin`, `why_not`, and `of`, the speed of each
    run over that of the reference with its bounds, by the index of the run; empty where runs cannot be compared."""
    runs = [run for run in results if run.kind == "model" and run.status == FINISHED]
    places = {run.name: index for index, run in enumerate(results)}
    by_regime = {}
    for regime in REGIMES:
        compared = speeds(runs, regime)
        of = {
            places[name]: [float(f"{bound:.6g}") for bound in (speed.value, speed.lo, speed.hi)]
            for name, speed in compared.of.items()
        }
        by_regime[regime.raw] = {
            "regime": regime.name,
            "reference": compared.reference,
            "margin": compared.margin,
            "why_not": compared.why_not,
            "of": of,
        }
    return by_regime
