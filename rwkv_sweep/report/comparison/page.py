"""The comparison of two sweeps as one self-contained page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rwkv_sweep.report.charts.style import INKS, theme
from rwkv_sweep.report.common.run_groups import metric
from rwkv_sweep.report.comparison.charts import compared_charts
from rwkv_sweep.report.comparison.differences import Compared, SweepComparison, conclusion, verdicts
from rwkv_sweep.report.comparison.matching import Matching, Sweep
from rwkv_sweep.report.page.html import page
from rwkv_sweep.stats.intervals import Interval
from rwkv_sweep.utils.files import write_atomically

SCRIPTS = ("dom", "sorting", "cards", "compare_runs", "compare")
METRICS = ("quality/spearman", "latency/mean_ms", "throughput/tokens_per_s", "memory/weights_mib")


def write_compare_page(path: Path, a: Sweep, b: Sweep, matching: Matching, comparison: SweepComparison) -> Path:
    """Write the page to `path`, and return it. Raises OSError where that is not possible."""
    data = {
        "a": str(a.root),
        "b": str(b.root),
        "params": [asdict(change) for change in matching.params],
        "tags": [asdict(change) for change in matching.tags],
        "only": {"A": matching.only_a, "B": matching.only_b},
        "control": {name: _bounds(ratio) for name, ratio in comparison.control.items()},
        "reach": comparison.reach,
        "conclusion": conclusion(comparison),
        "runs": [_run(run) for run in comparison.runs],
        "charts": [asdict(chart) for chart in compared_charts(comparison)],
        "fields": [],
        "themes": {ground: theme(ground) for ground in INKS},
    }
    write_atomically(path, page(f"{a.root.name} and {b.root.name}", data, SCRIPTS))
    return path


def _run(run: Compared) -> dict[str, Any]:
    sides = (run.matched.a, run.matched.b)
    return {
        "name": run.matched.name,
        "quality": _bounds(run.quality),
        "latency": _bounds(run.latency),
        "no_quality": run.no_quality,
        "no_latency": run.no_latency,
        "adjusted": run.adjusted,
        "verdicts": verdicts(run),
        "metrics": {key: [metric(side, key) for side in sides] for key in METRICS},
    }


def _bounds(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"value": interval.value, "lo": interval.lo, "hi": interval.hi}
