"""The figures of the report on aggregation: what it costs, and what it brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.charts.drawing import BLUE, GREY, LOOKS, ORANGE, draw_all, points
from rwkv_sweep.report.common.run_groups import Group, depth, groups, interval, layer
from rwkv_sweep.stats.intervals import Interval

WAYS = (("", "pooled as blocks run", (BLUE, "o"), BLUE, -0.14), ("naive_", "layers kept", (ORANGE, "s"), "white", 0.14))
"""Prefix of the overhead metrics, words, look, fill and place within the row."""
KINDS = (("latency", "single pairs"), ("batch", "full batches"))
"""Of overhead metrics, with what they time."""
DASHES = ("--", ":", "-.")


def write_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, and return the paths, SVG before PNG."""
    drawings = {"latency_ratio": latency_figure, "quality": quality_figure}
    return draw_all(drawings, results, folder)


def latency_figure(results: Sequence[Result]) -> Figure | None:
    """Time over that of final-layer inference: aggregations above, early exits by depth below; None without any."""
    run_groups = groups(results)
    rows = [(group, run) for group in run_groups for run in group.aggregates if _ratio(run, "latency")]
    early = [group for group in run_groups if sum(_ratio(run, "latency") is not None for run in group.singles) > 1]
    heights = [height for height in (0.7 + 0.4 * len(rows) if rows else 0, 2.2 if early else 0) if height]
    if not heights:
        return None
    figure = Figure(figsize=(8.5, sum(heights) + 1.1))
    axes = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    for column, (kind, of) in enumerate(KINDS):
        if rows:
            _aggregation_ratios(axes[0][column], rows, kind)
            axes[0][column].set_title(f"Several layers, {of}")
        if early:
            _exit_ratios(axes[-1][column], early, kind)
            axes[-1][column].set_title(f"One layer, {of}")
    if rows:
        axes[0][1].tick_params(labelleft=False)
        # One scale, so that pairs and batches can be compared by eye.
        shared = [bound for panel in axes[0] for bound in panel.get_xlim()]
        for panel in axes[0]:
            panel.set_xlim(min(shared), max(shared))
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    if early:
        axes[-1][0].legend(loc="lower right")
    return figure


def quality_figure(results: Sequence[Result]) -> Figure | None:
    """Spearman by layer and by aggregation, baselines as lines; None where no run has a Spearman."""
    run_groups = [group for group in groups(results) if any(_spearman(run) for run in group.runs)]
    if not run_groups:
        return None
    names = list(dict.fromkeys(group.label(run) for group in run_groups for run in group.aggregates if _spearman(run)))
    figure = Figure(figsize=(8.5, 4.2))
    ratios = [6, max(2.0, 0.8 * len(names))] if names else [1]
    left, *right = figure.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    _spearman_by_layer(left, run_groups)
    if names:
        _spearman_by_aggregation(right[0], run_groups, names)
    reference_lines([left, *right], results, run_groups)
    if len(run_groups) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _aggregation_ratios(axes: Axes, rows: Sequence[tuple[Group, Result]], kind: str) -> None:
    for prefix, words, look, fill, shift in WAYS:
        timed = [(place, ratio) for place, (_, run) in enumerate(rows) if (ratio := _ratio(run, kind, prefix))]
        if timed:
            places = [place + shift for place, _ in timed]
            points(axes, places, [ratio for _, ratio in timed], look, words, sideways=True, fill=fill)
    axes.axvline(1, color=GREY, linewidth=1.2, zorder=1, label="final-layer inference")
    names = [group.label(run) + (f"\n{group.name}" if group.name else "") for group, run in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("time / time of final-layer inference")


def _exit_ratios(axes: Axes, run_groups: Sequence[Group], kind: str) -> None:
    blocks = max(group.blocks or max(depth(run) for run in group.singles) for group in run_groups)
    for group, look in zip(run_groups, _looks(run_groups), strict=True):
        timed = [(depth(run), ratio) for run in group.singles if (ratio := _ratio(run, kind))]
        if timed:
            points(
                axes, [x for x, _ in timed], [ratio for _, ratio in timed], look, group.name or "one layer", line="-"
            )
    axes.plot([0, blocks], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1, label="share of the blocks")
    axes.axhline(1, color=GREY, linewidth=1.2, zorder=1)
    axes.set(xlabel="blocks run", ylabel="time / final layer's", xlim=(0, blocks * 1.04))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _spearman_by_layer(axes: Axes, run_groups: Sequence[Group]) -> None:
    ticks: dict[int, str] = {}
    for number, (group, look) in enumerate(zip(run_groups, _looks(run_groups), strict=True)):
        # A little apart, so that the intervals of several groups do not cover each other.
        shift = (number - (len(run_groups) - 1) / 2) * 0.16
        scored = [(_place(group, run) + shift, value) for run in group.singles if (value := _spearman(run))]
        if scored:
            points(axes, [x for x, _ in scored], [value for _, value in scored], look, group.name or None, line="-")
        ticks |= {_place(group, run): layer(run) for run in group.singles}
    axes.set_xticks(list(ticks), list(ticks.values()))
    if len(ticks) == 1:
        axes.set_xlim(min(ticks) - 1, min(ticks) + 1)
    axes.set(title="One layer", xlabel="layer", ylabel="Spearman, 95 % interval")
    axes.grid(axis="x", visible=False)


def _spearman_by_aggregation(axes: Axes, run_groups: Sequence[Group], names: Sequence[str]) -> None:
    for number, (group, look) in enumerate(zip(run_groups, _looks(run_groups), strict=True)):
        shift = (number - (len(run_groups) - 1) / 2) * 0.2
        scored = [(names.index(group.label(run)), value) for run in group.aggregates if (value := _spearman(run))]
        if scored:
            points(axes, [place + shift for place, _ in scored], [value for _, value in scored], look)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_title("Several layers")
    axes.grid(axis="x", visible=False)


def reference_lines(row: Sequence[Axes], results: Sequence[Result], run_groups: Sequence[Group]) -> None:
    """Each baseline and the final layer across all panels, named at the right margin."""
    baselines = [
        baseline
        for baseline in results
        if baseline.kind == "baseline" and baseline.status == FINISHED and _spearman(baseline)
    ]
    several_data = len({str(baseline.params.get("dataset")) for baseline in baselines}) > 1
    lines = []
    for number, baseline in enumerate(baselines):
        name = baseline.name + (f", {baseline.params.get('dataset')}" if several_data else "")
        lines.append((baseline.metrics["quality/spearman"], name, "black", DASHES[number % len(DASHES)]))
    if len(run_groups) == 1 and run_groups[0].final is not None and (value := _spearman(run_groups[0].final)):
        lines.append((value.value, "final layer", LOOKS[0][0], "-"))
    for height, _, colour, dash in lines:
        for axes in row:
            axes.axhline(height, color=colour, linewidth=0.9, linestyle=dash, zorder=1)
    _margin_names(row[-1], [(height, f"{name} {height:.3f}", colour) for height, name, colour, _ in lines])


def _margin_names(axes: Axes, names: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the panel at their heights, pushed up where they would cover each other."""
    bottom, top = axes.get_ylim()
    least = bottom
    for height, name, colour in sorted(names):
        least = max(height, least)
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        axes.annotate(name, (1.02, least), color=colour, **place)
        least += 0.05 * (top - bottom)
    axes.set_ylim(bottom, top)


def _place(group: Group, run: Result) -> int:
    """x of a layer: the number of its block, the embedding before them, the final norm after."""
    return depth(run) if layer(run) == "final" else depth(run) - 1


def _looks(run_groups: Sequence[Group]) -> list[tuple[str, str]]:
    return [LOOKS[number % len(LOOKS)] for number in range(len(run_groups))]


def _ratio(run: Result, kind: str, prefix: str = "") -> Interval | None:
    return interval(run, f"overhead/{prefix}{kind}_ratio")


def _spearman(run: Result) -> Interval | None:
    return interval(run, "quality/spearman")
