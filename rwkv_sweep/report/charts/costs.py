"""Quality against a cost: speed in one regime, memory; with the runs that no other is shown to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from rwkv_sweep.report.charts.chart import (
    Row,
    Runs,
    View,
    baseline_layers,
    bounds,
    picking,
    quickly,
    rows_chart,
    selections,
    shown_interval,
    spec_of,
    tooltip,
)
from rwkv_sweep.report.common.ranking import Ranking
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.speeds.pareto import unbeaten
from rwkv_sweep.report.speeds.speeds import REGIMES, sign, speeds
from rwkv_sweep.stats.intervals import Interval

SPEARMAN = "quality/spearman"
UNITS = {"throughput/tokens_per_s": "tokens/s", "latency/mean_ms": "ms per pair"}
SIZES = (
    ("memory/weights_mib", "weights, MiB", 0.0),
    ("memory/peak_allocated_mib", "peak memory, MiB", 0.01),
    ("memory/peak_above_weights_mib", "peak above the weights, MiB", 0.01),
)
"""Metric, name, and the relative difference below which two runs are alike."""
MOST_NAMED = 8
MOST_INTERVALS = 60
"""Points up to which each has its interval; of more, only those that are not beaten."""
WIDE = 4.0
"""Largest over smallest cost from which the axis is logarithmic."""


@dataclass(frozen=True)
class CostAxis:
    """What runs cost. name: of the axis. of: by index of the run. more: whether more of it is better. sign: of two
    indices, 1 where the first is shown to be better; None where runs were timed one after another, so that none is
    called the best."""

    name: str
    of: Mapping[int, Interval]
    more: bool
    sign: Callable[[int, int], int] | None

    @property
    def varies(self) -> bool:
        return len({value.value for value in self.of.values()}) > 1


def speed_costs(runs: Runs) -> list[CostAxis]:
    """Of each regime that was timed: speed on one scale where runs can be compared, else their own figures."""
    costs = []
    for regime in REGIMES:
        compared = speeds([run for _, run in runs.finished], regime)
        index = {run.name: i for i, run in runs.finished}
        if compared.of:
            names = {index[name]: name for name in compared.of}
            of = {i: compared.of[name] for i, name in names.items()}
            title = f"speed for {regime.name} over {compared.reference}"
            costs.append(CostAxis(title, of, True, lambda i, j, s=compared, n=names: s.sign(n[i], n[j])))  # type: ignore[misc]
            continue
        raw = {i: figure for i, run in runs.finished if (figure := metric(run, regime.raw))}
        if raw:
            of = {i: Interval(figure, figure, figure) for i, figure in raw.items()}
            more = regime.raw == "throughput/tokens_per_s"
            costs.append(CostAxis(f"{UNITS[regime.raw]}, timed one after another", of, more, None))
    return sorted(costs, key=lambda cost: (not cost.varies, cost.sign is None))


def memory_costs(runs: Runs) -> list[CostAxis]:
    """Weights, and peaks where a device counts them."""
    costs = []
    for key, name, margin in SIZES:
        sizes = {i: size for i, run in runs.finished if (size := metric(run, key)) is not None and size > 0}
        of = {i: Interval(size, size, size) for i, size in sizes.items()}
        if of:

            def less(i: int, j: int, of: Mapping[int, Interval] = of, margin: float = margin) -> int:
                ratio = of[j].value / of[i].value
                return sign(Interval(ratio, ratio, ratio), margin)

            costs.append(CostAxis(name, of, False, less))
    return sorted(costs, key=lambda cost: not cost.varies)


@quickly
def cost_view(runs: Runs, cost: CostAxis, ranked: Sequence[Ranking]) -> View | None:
    """Spearman against a cost; None where no run has both."""
    placed = {i: score for i, run in runs.finished if i in cost.of and (score := interval(run, SPEARMAN))}
    best = unbeaten_runs(runs, list(placed), cost, ranked)
    baselines = [
        (runs.labels.get(run.name, run.name), value)
        for run in runs.baselines
        if (value := metric(run, SPEARMAN)) is not None
    ]
    return scatter(runs, cost, placed, best, "Spearman", baselines)


def unbeaten_runs(runs: Runs, indices: Sequence[int], cost: CostAxis, ranked: Sequence[Ranking]) -> list[int]:
    """Indices of the runs that no other is shown to beat in Spearman or the cost without being worse in the other."""
    order = cost.sign
    if order is None:
        return []
    shown = better_than(ranked)
    results = runs.results
    left = unbeaten(
        len(indices),
        lambda i, j: shown.get((id(results[indices[i]]), id(results[indices[j]])), 0),
        lambda i, j: order(indices[i], indices[j]),
    )
    return [indices[i] for i in left]


def better_than(ranked: Sequence[Ranking]) -> Mapping[tuple[int, int], int]:
    """By the identities of two runs, 1 where the first is shown to be better in Spearman, -1 where the second is."""
    signs = {}
    for ranking in ranked:
        for i, j in zip(*ranking.better_KK.nonzero(), strict=True):
            a, b = id(ranking.runs[i]), id(ranking.runs[j])
            signs[a, b], signs[b, a] = 1, -1
    return signs


@quickly
def scatter(
    runs: Runs,
    cost: CostAxis,
    placed: Mapping[int, Interval],
    best: Sequence[int],
    height: str,
    baselines: Sequence[tuple[str, float]] = (),
) -> View | None:
    """Points of quality (`placed`, by index) against a cost, those of `best` filled and named; None without any."""
    rows: list[Row] = []
    named = sorted(best, key=lambda i: -placed[i].value)[:MOST_NAMED]
    for i, value in placed.items():
        x = cost.of[i]
        row = {"run": i, "x": x.value, "x_lo": x.lo, "x_hi": x.hi, **bounds(value), "best": i in best or not best}
        row["cost"] = shown_interval(x) if x.hi > x.lo else f"{x.value:,.4g}"
        row["text"] = shown_interval(value)
        rows.append(row)
    if not rows:
        return None
    _name(runs, rows, named)
    return View(cost.name, _spec(runs, rows, cost, height, baselines), rows)


def _name(runs: Runs, rows: Sequence[Row], named: Sequence[int]) -> None:
    """Write the labels of the runs that are named into their rows; where two would cover each other, into one."""
    wide = [max(row[key] for row in rows) - min(row[key] for row in rows) or 1.0 for key in ("x", "value")]
    heads: list[Row] = []
    for row in sorted((row for row in rows if row["run"] in named), key=lambda row: -float(row["value"])):
        label = runs.labels.get(runs.results[row["run"]].name, "")
        at = (row["x"], row["value"])
        near = (
            head
            for head in heads
            if all(abs(p - q) < 0.04 * w for p, q, w in zip(at, (head["x"], head["value"]), wide, strict=True))
        )
        head = next(near, None)
        if head is None:
            heads.append(row)
            row["name"] = label
        else:
            head["name"] += f"; {label}"


def _spec(
    runs: Runs, rows: Sequence[Row], cost: CostAxis, height: str, baselines: Sequence[tuple[str, float]]
) -> dict[str, Any]:
    wide = max(row["x_hi"] for row in rows) > WIDE * min(row["x_lo"] for row in rows)
    title = f"{cost.name} ({'more' if cost.more else 'less'} is better{', log scale' if wide else ''})"
    x_scale = alt.Scale(type="log", nice=False, padding=24) if wide else alt.Scale(zero=False, padding=24)
    axis = alt.Axis(title=title, format=",~r", tickCount=6)
    y_scale = alt.Scale(zero=False)
    base, colour = rows_chart(), {"color": runs.scales()["color"]}
    x = alt.X("x:Q", scale=x_scale, axis=axis)
    y = alt.Y("value:Q", scale=y_scale, title=height)
    reach = max(row["hi"] for row in rows) - min(row["lo"] for row in rows)
    certain = base.transform_filter("datum.best") if len(rows) > MOST_INTERVALS else base

    def points(of: Any, name: str, filled: bool) -> Any:
        marks = of.properties(name=name).mark_point(filled=filled, strokeWidth=1.6)
        return marks.encode(x=x, y=y, tooltip=tooltip(("text", height), ("cost", cost.name)), **runs.scales())

    layers = [
        *baseline_layers(baselines, reach),
        certain.mark_rule(style="interval")
        .encode(x=x, y=alt.Y("lo:Q", title=height), y2="hi:Q", **colour)
        .add_params(picking()),
        certain.mark_rule(style="interval").encode(x=alt.X("x_lo:Q", axis=axis), x2="x_hi:Q", y=y, **colour),
        points(base.transform_filter("!datum.best"), "open_points", False),
        points(base.transform_filter("datum.best"), "points", True),
    ]
    layers[-1] = layers[-1].add_params(*selections())
    if any("name" in row for row in rows):
        named = base.transform_filter("isValid(datum.name)")
        layers.append(named.mark_text(style="name").encode(x=x, y=y, text="name:N"))
    return spec_of(alt.layer(*layers).resolve_scale(strokeDash="independent"), height=320, width="container")
