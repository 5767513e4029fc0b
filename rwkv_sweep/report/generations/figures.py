"""The figures of the report on several models: quality and time by relative depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.drawing import LOOKS, draw_all, points
from rwkv_sweep.report.common.run_groups import interval, layer
from rwkv_sweep.report.generations.models import ModelRuns, microseconds_per_token, model_runs
from rwkv_sweep.stats.intervals import Interval

FINAL_SHIFT = 0.03
"""`final` runs as many blocks as the last block's raw output, and is drawn beside it."""


def draw_by_depth(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, and return the paths, SVG before PNG."""
    return draw_all({"quality": quality_by_depth, "time": time_by_depth}, results, folder)


def quality_by_depth(results: Sequence[Result]) -> Figure | None:
    """Spearman by relative depth, a line for each model; None where no run has one."""
    return _by_depth(results, lambda run: interval(run, "quality/spearman"), "Spearman, 95 % interval")


def time_by_depth(results: Sequence[Result]) -> Figure | None:
    """Microseconds a token by relative depth, a line for each model; None where throughput was not measured."""
    return _by_depth(results, microseconds_per_token, "microseconds a token")


def _by_depth(results: Sequence[Result], value_of: Callable[[Result], Interval | None], label: str) -> Figure | None:
    figure = Figure(figsize=(8.5, 4.2))
    axes = figure.subplots()
    drawn = False
    for number, model in enumerate(model_runs(results)):
        placed = [
            (place, value)
            for run in model.runs
            if (place := _place(model, run)) is not None and (value := value_of(run)) is not None
        ]
        if placed:
            look = LOOKS[number % len(LOOKS)]
            points(axes, [place for place, _ in placed], [value for _, value in placed], look, model.name, line="-")
            drawn = True
    axes.set(xlabel="share of the model's blocks that run", ylabel=label)
    axes.legend()
    return figure if drawn else None


def _place(model: ModelRuns, run: Result) -> float | None:
    share = model.relative_depth(run)
    return None if share is None else share + (FINAL_SHIFT if layer(run) == "final" else 0.0)
