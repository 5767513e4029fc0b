"""The figures of any sweep: Spearman by layer, and quality against speed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.aggregation import quality_figure, reference_lines
from rwkv_sweep.report.charts.drawing import LOOKS, STYLE, points, save
from rwkv_sweep.report.common.ranking import Ranking
from rwkv_sweep.report.common.run_groups import Group, groups, interval, metric
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.speeds.pareto import unbeaten
from rwkv_sweep.report.speeds.speeds import REGIMES, Speeds, speeds
from rwkv_sweep.stats.intervals import Interval

UNITS = {"throughput/tokens_per_s": "tokens/s", "latency/mean_ms": "ms per pair"}
NAMED = 8
"""Runs that are not beaten and named."""
WIDE = 4.0
"""Largest over smallest speed from which the axis is logarithmic."""
Placed = tuple[Interval, Interval, str, Result]
"""Speed, Spearman, label and run."""


def write_overview(findings: Findings, folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, as SVG and PNG; return the paths, none where no run has a Spearman."""
    paths = []
    with matplotlib.rc_context(STYLE):
        drawn = {"spearman_by_layer": quality_figure(findings.records.results)}
        drawn["quality_against_speed"] = speed_figure(findings)
        for name, figure in drawn.items():
            paths += save(figure, folder / name) if figure is not None else []
    return paths


def speed_figure(findings: Findings) -> Figure | None:
    """Spearman over speed, with the runs named that no other is shown to beat; None where no run has both.

    Speed is that of packed batches, or of single pairs where no batches were timed: on one scale where runs can be
    compared, else their own figures, of which none is called the best.
    """
    run_groups = groups(findings.records.results)
    runs = [run for group in run_groups for run in group.runs]
    regime = next((regime for regime in REGIMES if any(metric(run, regime.raw) is not None for run in runs)), None)
    if regime is None:
        return None
    compared = speeds(runs, regime)
    placed = [_placed(group, compared) for group in run_groups]
    everywhere = [point for points_ in placed for point in points_]
    if not everywhere:
        return None
    figure = Figure(figsize=(8.5, 4.2))
    axes = figure.subplots()
    for number, (group, points_) in enumerate(zip(run_groups, placed, strict=True)):
        if points_:
            look, name = LOOKS[number % len(LOOKS)], group.name or None
            points(axes, [x.value for x, *_ in points_], [value for _, value, *_ in points_], look, name)
    values = [x.value for x, *_ in everywhere]
    if max(values) > WIDE * min(values):
        axes.set_xscale("log")
    alone = f"{UNITS[regime.raw]}, timed one after another"
    axes.set_xlabel(f"speed for {regime.name} over {compared.reference}" if compared.of else alone)
    axes.set_ylabel("Spearman, 95 % interval")
    _name_unbeaten(axes, everywhere, compared, findings.ranked)
    reference_lines([axes], findings.records.results, run_groups)
    if len(run_groups) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _placed(group: Group, compared: Speeds) -> list[Placed]:
    """Each run that has a speed and a Spearman."""
    points_of_group: list[Placed] = []
    for run in group.runs:
        raw = metric(run, compared.regime.raw)
        own = Interval(raw, raw, raw) if raw else None
        speed = compared.of.get(run.name) if compared.of else own
        value = interval(run, "quality/spearman")
        if speed is not None and value is not None:
            points_of_group.append((speed, value, group.label(run), run))
    return points_of_group


def _name_unbeaten(axes: Axes, placed: list[Placed], compared: Speeds, ranked: list[Ranking]) -> None:
    if not compared.of:
        return
    runs = [run for *_, run in placed]
    shown = better_than(ranked)
    left = unbeaten(
        len(runs),
        lambda i, j: shown.get((id(runs[i]), id(runs[j])), 0),
        lambda i, j: compared.sign(runs[i].name, runs[j].name),
    )
    for x, value, name, _ in sorted((placed[i] for i in left), key=lambda point: -point[0].value)[:NAMED]:
        axes.annotate(name, (x.value, value.value), xytext=(5, 5), textcoords="offset points", fontsize=8)


def better_than(ranked: list[Ranking]) -> Mapping[tuple[int, int], int]:
    """By the identities of two runs, 1 where the first is shown to be better in Spearman, -1 where the second is."""
    signs = {}
    for ranking in ranked:
        for i, j in zip(*ranking.better_KK.nonzero(), strict=True):
            a, b = id(ranking.runs[i]), id(ranking.runs[j])
            signs[a, b], signs[b, a] = 1, -1
    return signs
