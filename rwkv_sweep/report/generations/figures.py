"""The figures of the report on several models: quality and time by relative depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.chart import View
from rwkv_sweep.report.charts.depth import depth_lines, depth_row
from rwkv_sweep.report.charts.files import write_views
from rwkv_sweep.report.common.run_groups import interval, layer
from rwkv_sweep.report.generations.models import microseconds_per_token, model_runs
from rwkv_sweep.stats.intervals import Interval

FINAL_SHIFT = 0.03
"""`final` runs as many blocks as the last block's raw output, and is drawn beside it."""


def draw_by_depth(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, and return the paths, SVG before PNG."""
    return write_views([("quality", quality_by_depth(results)), ("time", time_by_depth(results))], None, folder)


def quality_by_depth(results: Sequence[Result]) -> View | None:
    """Spearman by relative depth, a line for each model; None where no run has one."""
    return _by_relative_depth(results, lambda run: interval(run, "quality/spearman"), "Spearman, 95 % interval")


def time_by_depth(results: Sequence[Result]) -> View | None:
    """Microseconds a token by relative depth, a line for each model; None where throughput was not measured."""
    return _by_relative_depth(results, microseconds_per_token, "microseconds a token")


def _by_relative_depth(
    results: Sequence[Result], value_of: Callable[[Result], Interval | None], title: str
) -> View | None:
    rows = []
    for model in model_runs(results):
        for run in model.runs:
            share, value = model.relative_depth(run), value_of(run)
            if share is not None and value is not None:
                at = share + (FINAL_SHIFT if layer(run) == "final" else 0.0)
                rows.append(depth_row(at, value, model.name, layer(run)))
    return depth_lines(rows, "share of the model's blocks that run", title) if rows else None
