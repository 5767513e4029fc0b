"""Figures over how much of a model runs: early exits, and damage block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.chart import Row, View, bounds, quickly, rows_chart, shown_interval, spec_of
from rwkv_sweep.report.charts.style import SHAPES
from rwkv_sweep.report.common.run_groups import depth, groups, interval, layer, metric
from rwkv_sweep.report.speeds.precisions import precision_groups
from rwkv_sweep.stats.intervals import Interval

KINDS = (("latency", "single pairs"), ("batch", "full batches"))


@quickly
def exits_view(results: Sequence[Result]) -> View | None:
    """Time over that of the final layer by blocks run, for pairs and for batches; None where fewer than two layers
    were timed."""
    rows, blocks = [], 0
    for group in groups(results):
        for kind, name in KINDS:
            timed = [(run, ratio) for run in group.singles if (ratio := interval(run, f"overhead/{kind}_ratio"))]
            if len(timed) > 1:
                blocks = max(blocks, group.blocks or max(depth(run) for run, _ in timed))
                series = f"{name}, {group.name}" if group.name else name
                rows += [depth_row(depth(run), ratio, series, layer(run)) for run, ratio in timed]
    if not rows:
        return None
    share = alt.Chart(alt.InlineData(values=[{"at": 0, "value": 0}, {"at": blocks, "value": 1}]))
    line = share.mark_line(style="front").encode(x="at:Q", y="value:Q")
    return depth_lines(rows, "blocks run", "time / final layer's (dashed: share of the blocks)", [line], zero=True)


@quickly
def blocks_views(results: Sequence[Result]) -> list[View]:
    """What quantizing one block alone does to cosine and to Spearman; none where no sweep did so."""
    damage, differences, kind = [], [], ""
    for group in precision_groups(results):
        for block, run in group.single_blocks().items():
            kind = kind or str(run.params.get("precision.quantization"))
            cosine, delta = metric(run, "parity/cosine_mean"), interval(run, "parity/spearman_delta")
            if cosine is not None:
                off = max(1e-8, 1 - cosine)
                damage.append(depth_row(block, Interval(off, off, off), group.name, str(block)))
            if delta is not None:
                differences.append(depth_row(block, delta, group.name, str(block)))
    if not damage:
        return []
    name = f"block quantized, one at a time in {kind}"
    upper = depth_lines(damage, name, "1 - mean cosine with fp32 (log scale)", log=True)
    lower = [depth_lines(differences, name, "Spearman less fp32's, 95 % interval")] if differences else []
    return [upper, *lower]


def depth_row(at: float, value: Interval, series: str, label: str) -> Row:
    """A value with its interval at `at`, of a run called `label`, on the line called `series`."""
    text = shown_interval(value) if value.hi > value.lo else f"{value.value:.4g}"
    return {"at": at, "series": series, "label": label, "text": text, **bounds(value)}


@quickly
def depth_lines(
    rows: Sequence[Row], across: str, title: str, under: Sequence[Any] = (), *, zero: bool = False, log: bool = False
) -> View:
    """A line with intervals for each series of the rows. under: layers drawn below them."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    legend = alt.Legend(title=None, columns=2) if len(names) > 1 else None
    colour = alt.Color("series:N", scale=alt.Scale(domain=names), legend=legend)
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=zero)
    base = rows_chart().encode(
        x=alt.X("at:Q", scale=alt.Scale(zero=zero), axis=alt.Axis(title=across, format=",~r")), color=colour
    )
    y_axis = alt.Axis(title=title, format="~g" if log else ",~r")
    layers = [
        *under,
        base.mark_rule(style="interval").encode(y=alt.Y("lo:Q", scale=scale, axis=y_axis), y2="hi:Q"),
        base.mark_line().encode(y=alt.Y("value:Q", axis=y_axis)),
        base.properties(name="points")
        .mark_point()
        .encode(
            y=alt.Y("value:Q", axis=y_axis),
            shape=alt.Shape("series:N", scale=alt.Scale(domain=names, range=shapes), legend=legend),
            tooltip=[
                alt.Tooltip("series:N", title="runs"),
                alt.Tooltip("label:N", title="layer"),
                alt.Tooltip("text:N", title=title),
            ],
        ),
    ]
    return View(title, spec_of(alt.layer(*layers), height=300, width="container"), list(rows))
