"""The figures of any sweep: Spearman by layer, and quality against speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rwkv_sweep.evaluate import Interval
from rwkv_sweep.report.arms import Group, groups, interval, metric
from rwkv_sweep.report.drawing import GREY, LOOKS, draw_all, points
from rwkv_sweep.report.figures import quality_figure, reference_lines
from rwkv_sweep.results import Result

SPEEDS = (("throughput/tokens_per_s", "tokens/s"), ("latency/mean_ms", "ms per pair"))
"""What speed is told in: the first that any run has. More is better in the first, less in the second."""
NAMED = 8
"""Runs on the front that are named."""
WIDE = 4.0
"""Largest over smallest speed from which the axis is logarithmic."""


def write_overview(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, as SVG and PNG; return the paths, none where no run has a Spearman."""
    drawings = {"spearman_by_layer": quality_figure, "quality_against_speed": speed_figure}
    return draw_all(drawings, results, folder)


def speed_figure(results: Sequence[Result]) -> Figure | None:
    """Spearman over speed, with what no other run beats in both joined; None where no run has both."""
    found = groups(results)
    timed = [key for key, _ in SPEEDS if any(_placed(group, key) for group in found)]
    if not timed:
        return None
    key = timed[0]
    figure = Figure(figsize=(8.5, 4.2))
    axes = figure.subplots()
    everywhere: list[tuple[float, Interval, str]] = []
    for number, group in enumerate(found):
        placed = _placed(group, key)
        if placed:
            look, name = LOOKS[number % len(LOOKS)], group.name or None
            points(axes, [x for x, _, _ in placed], [value for _, value, _ in placed], look, name)
        everywhere += placed
    speeds = [x for x, _, _ in everywhere]
    if max(speeds) > WIDE * min(speeds):
        axes.set_xscale("log")
    axes.set(xlabel=f"{dict(SPEEDS)[key]} ({'more' if key == SPEEDS[0][0] else 'less'} is better)")
    axes.set_ylabel("Spearman, 95 % interval")
    _front(axes, everywhere, more=key == SPEEDS[0][0])
    reference_lines([axes], results, found)
    if len(found) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _placed(group: Group, key: str) -> list[tuple[float, Interval, str]]:
    """Speed, Spearman and label of each run that has both."""
    return [
        (speed, value, group.label(run))
        for run in group.runs
        if (speed := metric(run, key)) and (value := interval(run, "quality/spearman"))
    ]


def pareto_front(places: Sequence[tuple[float, float]], more: bool) -> list[int]:
    """Indices of what no other beats in both, from the fastest: x is speed (more: or time), y quality."""
    order = sorted(range(len(places)), key=lambda i: ((-1 if more else 1) * places[i][0], -places[i][1]))
    front: list[int] = []
    for i in order:
        if not front or places[i][1] > places[front[-1]][1]:
            front.append(i)
    return front


def _front(axes: Axes, placed: Sequence[tuple[float, Interval, str]], more: bool) -> None:
    front = [placed[i] for i in pareto_front([(x, value.value) for x, value, _ in placed], more)]
    xs, ys = [x for x, _, _ in front], [value.value for _, value, _ in front]
    axes.plot(xs, ys, color=GREY, linewidth=1, linestyle="--", zorder=1, label="not beaten in both")
    for x, value, name in front[:NAMED]:
        axes.annotate(name, (x, value.value), xytext=(5, 5), textcoords="offset points", fontsize=8)
