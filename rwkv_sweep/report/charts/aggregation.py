"""The figures of the report on aggregation: what it costs, and what it brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.by_run import overhead_view
from rwkv_sweep.report.charts.chart import Runs
from rwkv_sweep.report.charts.depth import exits_view
from rwkv_sweep.report.charts.files import stacked, write_views
from rwkv_sweep.report.charts.layers import layers_view


def write_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, and return the paths, SVG before PNG."""
    runs = Runs.of(results)
    timed = [view for view in (overhead_view(runs, several_layers=True), exits_view(results)) if view is not None]
    return write_views([("latency_ratio", stacked(timed, runs)), ("quality", layers_view(runs))], runs, folder)
