"""The figures of the report on quantization: quality against speed and against memory, and damage block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, points, save
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.speeds.precision_fronts import fast_front, small_front
from rwkv_sweep.report.speeds.precisions import (
    MIB,
    SPEARMAN,
    PrecisionGroup,
    precision_groups,
)
from rwkv_sweep.report.speeds.speeds import BATCHES, PAIRS, Regime, speeds
from rwkv_sweep.stats.intervals import Interval

COLOURS = {
    "none": GREY,
    "int8": PURPLE,
    "int8_dynamic": BLUE,
    "int8_weight": BLUE,
    "fp8": GREEN,
    "int4": ORANGE,
    "nf4": ORANGE,
    "fp4": ORANGE,
}
DELTA = "parity/spearman_delta"
MARKERS = "osD^vP*Xp<>hd"


def write_quantization_figures(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, and return the paths, SVG before PNG."""
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, draw in (
            ("quality_speed", partial(speed_figure, regime=BATCHES)),
            ("quality_pair_speed", partial(speed_figure, regime=PAIRS)),
            ("quality_memory", memory_figure),
            ("blocks", block_figure),
        ):
            figure = draw(results)
            if figure is not None:
                paths += save(figure, folder / name)
    return paths


def speed_figure(results: Sequence[Result], regime: Regime) -> Figure | None:
    """Spearman against speed over fp32's in one regime, with intervals and the front; None where no run has both."""
    of: dict[int, Interval] = {}
    compared = []
    for group in precision_groups(results):
        compared_speeds = speeds(group.runs, regime)
        if compared_speeds.reference == "fp32":
            compared.append(group)
            of |= {id(run): compared_speeds.of[run.name] for run in group.runs if run.name in compared_speeds.of}
    name = f"speed {regime.where} over fp32's, 95 % interval"
    return _scatter(compared, lambda run: of.get(id(run)), partial(fast_front, regime=regime), name)


def memory_figure(results: Sequence[Result]) -> Figure | None:
    """Spearman against the MiB of weights without the embedding table; None where no run has both."""
    return _scatter(
        precision_groups(results),
        lambda run: _widened(run, MIB),
        small_front,
        "weights without the embedding table, MiB (log)",
        log=True,
    )


def block_figure(results: Sequence[Result]) -> Figure | None:
    """What quantizing one block alone does to cosine and Spearman; None where no sweep did so."""
    run_groups = [group for group in precision_groups(results) if group.single_blocks()]
    if not run_groups:
        return None
    figure = Figure(figsize=(8.5, 5.4))
    upper, lower = figure.subplots(2, 1, sharex=True)
    for group, colour, marker in zip(
        run_groups, (BLUE, ORANGE, GREEN, PURPLE) * len(run_groups), MARKERS * len(run_groups), strict=False
    ):
        runs = group.single_blocks()
        damage = [
            (block, 1 - value)
            for block, run in runs.items()
            if (value := metric(run, "parity/cosine_mean")) is not None
        ]
        differences = [(block, delta) for block, run in runs.items() if (delta := interval(run, DELTA))]
        upper.plot(*zip(*damage, strict=True), color=colour, marker=marker, label=group.name or None)
        if differences:
            points(lower, [block for block, _ in differences], [value for _, value in differences], (colour, marker))
    kind = next(iter(run_groups[0].single_blocks().values())).params.get("precision.quantization")
    upper.set(title=f"One block at a time in {kind}", ylabel="1 - mean cosine with fp32", yscale="log")
    _plain_numbers(upper.yaxis)
    lower.set(xlabel="block quantized", ylabel="Spearman less fp32's, 95 %")
    lower.axhline(0, color=GREY, linewidth=1.0, zorder=1)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(run_groups) > 1:
        figure.legend(loc="outside upper right", ncols=2)
    return figure


def _scatter(
    groups: Sequence[PrecisionGroup],
    across: Callable[[Result], Interval | None],
    front: Callable[[PrecisionGroup], list[Result]],
    label: str,
    log: bool = False,
) -> Figure | None:
    plotted = []
    for group in groups:
        runs = [run for run in group.runs if across(run) is not None and _quality(group, run) is not None]
        plotted += [(group, runs)] if len(runs) > 1 else []
    if not plotted:
        return None
    figure = Figure(figsize=(8.5, 4.4 * len(plotted)))
    for axes, (group, runs) in zip(figure.subplots(len(plotted), 1, squeeze=False)[:, 0], plotted, strict=True):
        _points_of(axes, group, runs, across)
        best = [run for run in front(group) if run in runs]
        line = [(x.value, y.value) for run in best if (x := across(run)) and (y := _quality(group, run))]
        axes.plot(*zip(*line, strict=True), color="black", linewidth=1, linestyle="--", zorder=1, label="not beaten")
        full = metric(group.full, SPEARMAN) if _paired(group) and group.full is not None else None
        height = "Spearman, 95 %" if full is None else f"Spearman less fp32's ({full:.3f}), paired 95 %"
        axes.set(title=group.name or None, xlabel=label, ylabel=height)
        if log:
            axes.set_xscale("log")
            _plain_numbers(axes.xaxis)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _points_of(
    axes: Axes, group: PrecisionGroup, runs: Sequence[Result], across: Callable[[Result], Interval | None]
) -> None:
    for number, run in enumerate(runs):
        place, score = across(run), _quality(group, run)
        assert place is not None and score is not None
        colour = COLOURS.get(str(run.params.get("precision.quantization")), GREY)
        look = (colour, MARKERS[number % len(MARKERS)])
        points(axes, [place.value], [score], look, group.label(run))
        if place.hi > place.lo:
            axes.plot([place.lo, place.hi], [score.value] * 2, color=colour, linewidth=1.3)


def _paired(group: PrecisionGroup) -> bool:
    """Whether Spearman can be drawn as the difference to fp32: what makes pairs hard is common to both and cancels."""
    return group.full is not None and any(interval(run, DELTA) for run in group.runs)


def _quality(group: PrecisionGroup, run: Result) -> Interval | None:
    """The height of a run."""
    if not _paired(group):
        return interval(run, SPEARMAN)
    return Interval(0.0, 0.0, 0.0) if run is group.full else interval(run, DELTA)


def _plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, as plain numbers: no figure here parses mathematics."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def _widened(run: Result, key: str) -> Interval | None:
    """A metric with its interval; without one, as wide as the value is."""
    value = metric(run, key)
    return interval(run, key) or (None if value is None else Interval(value, value, value))
