"""The figures of the report on quantization: quality against speed and against memory, and damage block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.chart import Runs, View
from rwkv_sweep.report.charts.costs import CostAxis, scatter
from rwkv_sweep.report.charts.depth import blocks_views
from rwkv_sweep.report.charts.files import stacked, write_views
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.speeds.precision_fronts import fast_front, small_front
from rwkv_sweep.report.speeds.precisions import MIB, SPEARMAN, PrecisionGroup, precision_groups
from rwkv_sweep.report.speeds.speeds import BATCHES, PAIRS, Regime, speeds
from rwkv_sweep.stats.intervals import Interval

DELTA = "parity/spearman_delta"


def write_quantization_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, and return the paths, SVG before PNG."""
    runs = Runs.of(results)
    views = {
        "quality_speed": speed_views(runs, BATCHES),
        "quality_pair_speed": speed_views(runs, PAIRS),
        "quality_memory": memory_views(runs),
        "blocks": blocks_views(results),
    }
    return write_views([(name, stacked(parts, runs)) for name, parts in views.items()], runs, folder)


def speed_views(runs: Runs, regime: Regime) -> list[View]:
    """Spearman against speed over fp32's in one regime, for each group of runs that differ in precision alone."""
    views = []
    for group in precision_groups(runs.results):
        compared = speeds(group.runs, regime)
        if compared.reference == "fp32":
            name = f"speed {regime.where} over fp32's"
            views += _views(runs, group, name, compared.of, partial(fast_front, regime=regime), more=True)
    return views


def memory_views(runs: Runs) -> list[View]:
    """Spearman against the MiB of weights without the embedding table, for each group."""
    views = []
    for group in precision_groups(runs.results):
        of = {run.name: Interval(v, v, v) for run in group.runs if (v := metric(run, MIB)) is not None}
        views += _views(runs, group, "weights without the embedding table, MiB", of, small_front, more=False)
    return views


def _views(
    runs: Runs,
    group: PrecisionGroup,
    name: str,
    of: dict[str, Interval],
    front: Callable[[PrecisionGroup], list[Result]],
    *,
    more: bool,
) -> list[View]:
    index = {id(run): i for i, run in runs.finished}
    placed = {
        index[id(run)]: value for run in group.runs if run.name in of and (value := height_of(group, run)) is not None
    }
    if len(placed) < 2:
        return []
    cost = CostAxis(name, {index[id(run)]: of[run.name] for run in group.runs if run.name in of}, more, None)
    best = [index[id(run)] for run in front(group) if index[id(run)] in placed]
    full = metric(group.full, SPEARMAN) if _paired(group) and group.full is not None else None
    height = "Spearman" if full is None else f"Spearman less fp32's ({full:.3f}), paired"
    view = scatter(runs, cost, placed, best, height)
    if view is None:
        return []
    spec = {**view.spec, "title": group.name} if group.name else view.spec
    return [View(view.name, spec, view.rows)]


def _paired(group: PrecisionGroup) -> bool:
    """Whether Spearman can be drawn as the difference to fp32: what makes pairs hard is common to both and cancels."""
    return group.full is not None and any(interval(run, DELTA) for run in group.runs)


def height_of(group: PrecisionGroup, run: Result) -> Interval | None:
    """The height of a run."""
    if not _paired(group):
        return interval(run, SPEARMAN)
    return Interval(0.0, 0.0, 0.0) if run is group.full else interval(run, DELTA)
