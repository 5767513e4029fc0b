"""Charts with a row for each run, in the table's order: distribution of latency, overhead, parity with fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from rwkv_sweep.report.charts.chart import (
    Row,
    Runs,
    View,
    bounds,
    quickly,
    rows_chart,
    shown_interval,
    spec_of,
    tooltip,
)
from rwkv_sweep.report.common.run_groups import interval, metric

RATIOS = {
    "overhead/latency_ratio": "single pairs",
    "overhead/batch_ratio": "full batches",
    "overhead/naive_latency_ratio": "layers kept, single pairs",
    "overhead/naive_batch_ratio": "layers kept, full batches",
}
DELTA, COSINE, WORST = "parity/spearman_delta", "parity/cosine_mean", "parity/cosine_p01"
SAME = 1e-8
"""Least distance from fp32 on the logarithmic axis."""
WIDE = 8.0
STEP = 22


@quickly
def latency_view(runs: Runs, quantiles: Mapping[int, Sequence[float]]) -> View | None:
    """Box plots from the quantiles of each run (0, 5, ..., 100 %, by index); None where nothing was timed."""
    rows: list[Row] = []
    for i, _ in runs.finished:
        of = quantiles.get(i)
        if of:
            p05, p25, p50, p75, p95 = (of[round(share * (len(of) - 1))] for share in (0.05, 0.25, 0.5, 0.75, 0.95))
            text = f"{p50:.2f} ms, middle half {p25:.2f} to {p75:.2f} ms"
            rows.append({"run": i, "lo": p05, "p25": p25, "value": p50, "p75": p75, "hi": p95, "text": text})
    if not rows:
        return None
    wide = max(row["hi"] for row in rows) > WIDE * min(row["lo"] for row in rows)
    scale = alt.Scale(type="log", nice=False) if wide else alt.Scale(zero=True)
    axis = alt.Axis(title=f"ms per pair{' (log scale)' if wide else ''}", format=",~r", tickCount=6)
    base, colour = by_label(), {"color": runs.scales()["color"]}
    layers = [
        base.mark_rule(style="interval").encode(x=alt.X("lo:Q", scale=scale, axis=axis), x2="hi:Q", **colour),
        base.mark_bar(height=10, opacity=0.35, cornerRadius=2).encode(
            x=alt.X("p25:Q", axis=axis), x2="p75:Q", **colour
        ),
        base.properties(name="points")
        .mark_point()
        .encode(x=alt.X("value:Q", axis=axis), tooltip=tooltip(("text", "median")), **runs.scales()),
    ]
    return View("ms per pair", rows_spec(layers, rows), rows)


@quickly
def overhead_view(runs: Runs, several_layers: bool = False) -> View | None:
    """Time over that of final-layer inference; None where nothing was timed so. several_layers: only runs of such."""
    rows: list[Row] = []
    for i, run in runs.finished:
        for key, kind in RATIOS.items():
            ratio = interval(run, key)
            if ratio is not None and (not several_layers or not _is_single(str(run.params.get("layer")))):
                rows.append({"run": i, "kind": kind, **bounds(ratio), "text": shown_interval(ratio)})
    if not rows:
        return None
    kinds = [kind for kind in RATIOS.values() if any(row["kind"] == kind for row in rows)]
    base = by_label().encode(yOffset=alt.YOffset("kind:N", sort=kinds, scale=alt.Scale(domain=kinds)))
    legend = alt.Legend(title=None, columns=2) if len(kinds) > 1 else None
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds), legend=legend)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds), legend=legend)
    title = "time / time of final-layer inference"
    scale, axis = alt.Scale(zero=False), alt.Axis(title=title, tickCount=6)
    layers = [
        reference_at(1.0),
        *interval_points(
            base,
            alt.X("lo:Q", scale=scale, axis=axis),
            alt.X("value:Q", axis=axis),
            (colour, shape),
            tooltip(("kind", "timed"), ("text", "ratio")),
        ),
    ]
    return View(title, rows_spec(layers, rows, STEP if len(kinds) < 3 else 12 * len(kinds)), rows)


@quickly
def parity_views(runs: Runs) -> list[View]:
    """Distance of vectors from those of fp32, and Spearman less that of fp32; those that were measured."""
    distances: list[Row] = []
    differences: list[Row] = []
    for i, run in runs.finished:
        cosine, worst, delta = metric(run, COSINE), metric(run, WORST), interval(run, DELTA)
        if cosine is not None:
            off = max(SAME, 1 - cosine)
            text = f"mean cosine {cosine:.6f}" + ("" if worst is None else f", 1st percentile {worst:.6f}")
            end = off if worst is None else max(off, 1 - worst)
            distances.append({"run": i, "value": off, "lo": off, "hi": end, "text": text})
        if delta is not None:
            differences.append({"run": i, **bounds(delta), "text": shown_interval(delta, 4)})
    views = []
    if distances:
        title = "1 - cosine with fp32 (log scale, less is better)"
        views.append(View("vectors", _distance(runs, distances, title, "log", None), distances))
    if differences:
        views.append(
            View("Spearman", _distance(runs, differences, "Spearman less that of fp32", "linear", 0.0), differences)
        )
    return views


def _distance(runs: Runs, rows: Sequence[Row], title: str, kind: Any, zero: float | None) -> dict[str, Any]:
    scale, base = alt.Scale(type=kind) if kind == "log" else alt.Scale(zero=False), by_label()
    axis = alt.Axis(title=title, format="~g", tickCount=5)
    layers = [
        *([] if zero is None else [reference_at(zero)]),
        base.mark_rule(style="interval").encode(
            x=alt.X("lo:Q", scale=scale, axis=axis), x2="hi:Q", color=runs.scales()["color"]
        ),
        base.properties(name="points")
        .mark_point()
        .encode(x=alt.X("value:Q", axis=axis), tooltip=tooltip(("text", title)), **runs.scales()),
    ]
    return rows_spec(layers, rows)


def by_label() -> alt.Chart:
    """A row for each label, in the order of the rows."""
    return rows_chart().encode(y=alt.Y("label:N", sort=None, title=None))


def reference_at(value: float) -> Any:
    """The line where a ratio or a difference says that there is none."""
    return alt.Chart(alt.InlineData(values=[{"at": value}])).mark_rule(style="reference").encode(x="at:Q")


def interval_points(
    base: alt.Chart, lower: alt.X, value: alt.X, look: tuple[alt.Color, alt.Shape], shown: Sequence[alt.Tooltip]
) -> list[Any]:
    """In each row a bar from `lo` to `hi` and a point at `value`. look: colour, shape. shown: the tooltip."""
    colour, shape = look
    return [
        base.mark_rule(style="interval").encode(x=lower, x2="hi:Q", color=colour),
        base.properties(name="points").mark_point().encode(x=value, color=colour, shape=shape, tooltip=list(shown)),
    ]


def rows_spec(layers: Sequence[Any], rows: Sequence[Row], step: int = STEP) -> dict[str, Any]:
    """The specification of layers that share a strip of `step` pixels for each run, as high as all of them."""
    strips = len({row.get("run", row.get("label")) for row in rows})
    # The page reads `usermeta` to set the height anew for the runs that its filter leaves.
    return spec_of(alt.layer(*layers), height=step * strips, width="container", usermeta={"step": step})


def _is_single(layer: str) -> bool:
    return layer.isdigit() or layer in ("final", "embedding")
