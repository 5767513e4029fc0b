"""Quality, and any other figure, by layer and by aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from rwkv_sweep.records.results import Result
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
from rwkv_sweep.report.common.run_groups import depth, interval, layer, metric, short_layers
from rwkv_sweep.stats.intervals import Interval

SPEARMAN = "quality/spearman"
MOST_SERIES_APART = 6
"""Series that are drawn beside each other within the place of a layer; of more, all on the same line."""


@quickly
def layers_view(runs: Runs, key: str = SPEARMAN, title: str = "Spearman") -> View | None:
    """A metric with its intervals over layers, a line for each series, aggregations at the right, baselines across;
    None where no run has it. title: of the axis."""
    rows = []
    for index, run in runs.finished:
        value = metric(run, key)
        if value is not None:
            shown = interval(run, key) or Interval(value, value, value)
            row = {"run": index, "at": _place(run), "single": _is_single(run), **bounds(shown)}
            rows.append({**row, "text": shown_interval(shown) if shown.hi > shown.lo else f"{value:.6g}"})
    if not rows:
        return None
    runs_drawn = [run for _, run in runs.finished if metric(run, key) is not None]
    baselines = [
        (runs.labels.get(run.name, run.name), value)
        for run in runs.baselines
        if key.startswith("quality/") and (value := metric(run, key)) is not None
    ]
    return View(title, _spec(runs, rows, places(runs_drawn), baselines, title), rows)


def places(runs: Sequence[Result]) -> list[str]:
    """Names along the axis: every block from the first to the last, so that distances are true, the final norm, then
    the aggregations."""
    blocks = [int(layer(run)) for run in runs if layer(run).isdigit()]
    final = [run for run in runs if layer(run) == "final"]
    last = max([*blocks, *(depth(run) - 1 for run in final)], default=0)
    names = ["embedding"] if any(layer(run) == "embedding" for run in runs) else []
    names += [str(block) for block in range(0 if names else min(blocks), last + 1)] if blocks else []
    names += ["final"] if final else []
    return names + [name for name in dict.fromkeys(map(_place, runs)) if name not in names]


def _is_single(run: Result) -> bool:
    return layer(run).isdigit() or layer(run) in ("final", "embedding")


def _place(run: Result) -> str:
    return layer(run) if _is_single(run) else f"{run.params.get('aggregation')} {short_layers(layer(run))}"


def _spec(
    runs: Runs, rows: Sequence[Row], names: Sequence[str], baselines: Sequence[tuple[str, float]], title: str
) -> dict[str, Any]:
    present = {row["at"] for row in rows}
    axis = alt.Axis(
        values=[name for name in names if name in present],
        labelAngle=0,
        labelExpr="split(datum.label, ' ')",
        title="layer" if all(row["single"] for row in rows) else "layer, then aggregations",
    )
    apart = alt.Scale(domain=list(names), type="band", paddingInner=0.65, paddingOuter=0.3)
    x = alt.X("at:N", scale=apart, axis=axis)
    y_scale = alt.Scale(zero=False, nice=True)
    series = len({runs.fields(run).get("series") for _, run in runs.finished})
    encodings: dict[str, Any] = {"x": x}
    if 1 < series <= MOST_SERIES_APART:
        encodings["xOffset"] = alt.XOffset("series:N", sort=None)
    base = rows_chart().encode(**encodings)
    y = alt.Y("value:Q", scale=y_scale, title=title)
    reach = max(row["hi"] for row in rows) - min(row["lo"] for row in rows)
    colour = {"color": runs.scales()["color"]}
    whiskers = (
        base.mark_rule(style="interval").encode(y=alt.Y("lo:Q", title=title), y2="hi:Q", **colour).add_params(picking())
    )
    line = base.transform_filter("datum.single").mark_line().encode(y=y, detail="series:N", **runs.scales(line=True))
    points = base.properties(name="points").mark_point().encode(y=y, tooltip=tooltip(("text", title)), **runs.scales())
    layers = [*baseline_layers(baselines, reach), whiskers, line, points.add_params(*selections(x=False))]
    return spec_of(alt.layer(*layers).resolve_scale(strokeDash="independent"), height=320, width="container")
