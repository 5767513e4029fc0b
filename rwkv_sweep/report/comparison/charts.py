"""Two sweeps side by side: by how much each run of one differs from the run of the other that it is matched with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from rwkv_sweep.report.charts.by_run import by_label, interval_points, reference_at, rows_spec
from rwkv_sweep.report.charts.chart import Chart, Row, View, bounds, quickly, shown_interval
from rwkv_sweep.report.comparison.differences import SweepComparison, verdicts

MOST_ROWS = 60


def compared_charts(comparison: SweepComparison) -> list[Chart]:
    """Quality and time of what could be compared."""
    noise = (
        "The band is noise: the largest factor by which the baselines, timed in both, differ."
        if comparison.reach
        else "No baseline was timed in both sweeps, so nothing shows how much of this is due to the machine."
    )
    charts = [
        Chart(
            "quality",
            "Quality",
            "Spearman of B less that of A, paired bootstrap over the same pairs. In colour: more than noise after "
            "Holm's correction.",
            _views(comparison, "quality", ("worse", "better")),
        ),
        Chart(
            "latency",
            "Time of a pair",
            f"Median of B over that of A, with 95 % bootstrap intervals. {noise}",
            _views(comparison, "latency", ("slower", "faster")),
        ),
    ]
    return [chart for chart in charts if chart.views]


def _views(comparison: SweepComparison, figure: str, words: tuple[str, str]) -> list[View]:
    rows: list[Row] = []
    for run in comparison.runs[:MOST_ROWS]:
        value = getattr(run, figure)
        if value is not None:
            verdict = next((word for word in verdicts(run) if word in words), "within noise")
            rows.append({"label": run.matched.name, **bounds(value), "verdict": verdict, "text": shown_interval(value)})
    if not rows:
        return []
    is_quality = figure == "quality"
    name = "Spearman, B less A" if is_quality else "time, B over A"
    return [compared_view(name, rows, 0.0 if is_quality else 1.0, None if is_quality else comparison.reach, words)]


def compared_view(
    name: str, rows: Sequence[Row], centre: float, noise: tuple[float, float] | None, words: tuple[str, str]
) -> View:
    """A row for each pair of runs (`label`, `value`, `lo`, `hi`, `verdict`, `text`) beside the value that means no
    difference. noise: the band that means none either. words: the verdicts beyond noise, the unwelcome one first."""
    return View(name, _spec(name, rows, centre, noise, words), list(rows))


@quickly
def _spec(
    name: str, rows: Sequence[Row], centre: float, noise: tuple[float, float] | None, words: tuple[str, str]
) -> dict[str, Any]:
    scales = {"color": ["#8a94a0", "#d55e00", "#0072b2"], "shape": ["circle", "square", "diamond"]}
    legend, domain = alt.Legend(title=None), ["within noise", *words]
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=domain, range=scales["color"]), legend=legend)
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=domain, range=scales["shape"]), legend=legend)
    base, scale = by_label(), alt.Scale(zero=False)
    band = []
    if noise is not None:
        data = alt.InlineData(values=[{"from": noise[0], "to": noise[1]}])
        band = [alt.Chart(data).mark_rect(style="noise").encode(x=alt.X("from:Q", title=name), x2="to:Q")]
    layers = [
        *band,
        reference_at(centre),
        *interval_points(
            base,
            alt.X("lo:Q", scale=scale, title=name),
            alt.X("value:Q", title=name),
            (colour, shape),
            [alt.Tooltip("label:N", title="run"), alt.Tooltip("text:N", title=name)],
        ),
    ]
    return rows_spec(layers, rows)
