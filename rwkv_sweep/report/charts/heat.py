"""One figure by two keys as a map; further keys stand in maps of their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import altair as alt

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.charts.chart import Row, Runs, View, quickly, rows_chart, spec_of, tooltip
from rwkv_sweep.report.charts.layers import places
from rwkv_sweep.report.common.run_groups import metric, short_layers

FIGURES = (
    ("quality/spearman", "Spearman", ".3f"),
    ("latency/mean_ms", "ms per pair", ".2f"),
    ("throughput/tokens_per_s", "tokens/s", ",.0f"),
    ("overhead/latency_ratio", "pair time / final", ".3f"),
    ("parity/cosine_mean", "cosine with fp32", ".4f"),
    ("memory/weights_mib", "weights, MiB", ".1f"),
)
MOST_CELLS = 60
"""Values of a key up to which a map has a row or column for each."""
MOST_MAPS = 8
"""Combinations of the other keys that get maps of their own; of more, a cell is their mean, and the title says so."""
MOST_KEYS = 4
CELL = 76
"""Width in pixels."""


@quickly
def heat_views(runs: Runs) -> list[View]:
    """A view for each figure and each two keys that differ between runs."""
    models = [run for _, run in runs.finished]
    keys = [key for key in runs.keys if "." not in key or key.split(".")[0] not in runs.keys]
    keys = [key for key in keys if 1 < len({_value(run, key) for run in models}) <= MOST_CELLS][:MOST_KEYS]
    views = []
    for figure in FIGURES:
        if any(metric(run, figure[0]) is not None for run in models):
            views += [_view(runs, figure, pair) for pair in combinations(keys, 2)]
    return views


def _value(run: Result, key: str) -> str:
    value = str(run.params.get(key))
    return short_layers(value) if key == "layer" else value


def _order(models: Sequence[Result], key: str) -> list[str]:
    if key == "layer" and all(str(run.params.get("aggregation", "none")) == "none" for run in models):
        present = {_value(run, key) for run in models}
        return [name for name in places(models) if name in present]
    return list(dict.fromkeys(_value(run, key) for run in models))


def _view(runs: Runs, figure: tuple[str, str, str], pair: tuple[str, str]) -> View:
    key, name, form = figure
    down, across = pair
    others = [
        other for other in runs.keys if other not in pair and ("." not in other or other.split(".")[0] not in runs.keys)
    ]
    measured = [(i, run, value) for i, run in runs.finished if (value := metric(run, key)) is not None]
    low, high = min(value for *_, value in measured), max(value for *_, value in measured)
    rows: list[Row] = [
        {
            **{"run": i, "down": _value(run, down), "across": _value(run, across)},
            **{"map": ", ".join(f"{other}={_value(run, other)}" for other in others), "value": float(f"{value:.7g}")},
            "share": round((value - low) / (high - low), 3) if high > low else 0.5,
        }
        for i, run, value in measured
    ]
    maps = list(dict.fromkeys(row["map"] for row in rows))
    averaged = len(maps) > MOST_MAPS
    models = [run for _, run, _ in measured]
    title = f"{name}, mean over {', '.join(others)}" if averaged else name
    chart = _map(pair, (_order(models, down), _order(models, across)), title, form, (low, high), averaged)
    if len(maps) > 1 and not averaged:
        facets = alt.Facet("map:N", title=None, sort=maps)
        chart = chart.facet(facet=facets, columns=2).resolve_axis(x="independent", y="independent")
    else:
        chart = chart.properties(data=alt.NamedData(name="rows"))
    return View(f"{title}: {down} by {across}", spec_of(chart), rows)


def _map(
    pair: tuple[str, str],
    orders: tuple[list[str], list[str]],
    title: str,
    form: str,
    ends: tuple[float, float],
    averaged: bool,
) -> Any:
    down, across = pair
    value = "mean(value):Q" if averaged else "value:Q"
    base = rows_chart().encode(
        x=alt.X("across:N", scale=alt.Scale(domain=orders[1]), axis=alt.Axis(orient="top", title=across, labelAngle=0)),
        y=alt.Y("down:N", scale=alt.Scale(domain=orders[0]), title=down),
    )
    scale = alt.Scale(domain=list(ends), range="ramp") if ends[1] > ends[0] else alt.Scale(range="ramp")
    colour = alt.Color(
        value, scale=scale, legend=alt.Legend(title=title, gradientLength=120, format=form, orient="right")
    )
    shown = [alt.Tooltip("down:N", title=down), alt.Tooltip("across:N", title=across)]
    shown.append(alt.Tooltip(value, title=title, format=form))
    cells = base.properties(name="points").mark_rect(cornerRadius=3)
    if averaged:
        return alt.layer(cells.encode(color=colour, tooltip=shown)).properties(
            width=alt.Step(CELL), height=alt.Step(26)
        )
    text = alt.Text(value, format=form)
    layers = [
        cells.encode(color=colour, tooltip=tooltip()),
        base.transform_filter("datum.share <= 0.6").mark_text(style="heat-low").encode(text=text),
        base.transform_filter("datum.share > 0.6").mark_text(style="heat-high").encode(text=text),
    ]
    return alt.layer(*layers).properties(width=alt.Step(CELL), height=alt.Step(26))
