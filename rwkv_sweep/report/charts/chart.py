"""What all charts are made of: one Vega-Lite specification for page and files, and the rows it draws.

Rows are kept apart from the specification under the name `rows`, so that the page can narrow them to the runs that its
filter leaves. A row names its run by its index (`run`); what all charts show of a run (its label, the values it is
coloured and shaped by, the figures of the tooltip) stands once in `Runs.fields`, and is joined to the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.charts.style import DASHES, SHAPES
from rwkv_sweep.report.common.labels import run_labels, varied_keys
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.stats.intervals import Interval

ROWS = "rows"
COLOURED_BY = ("precision", "model", "pooling", "aggregation")
"""Keys in the order in which they are chosen for colour; the others share shape and dash."""
MOST_NAMED = 16
"""Values up to which a legend lists them."""
Row = dict[str, Any]
quickly = debug_mode(False)
"""Decorates what makes specifications: Altair validates none of their parts, which takes ten times as long as making
them; a test validates all of them."""


@dataclass(frozen=True)
class View:
    """One thing that a chart can show. name: for the reader's choice. spec: Vega-Lite, with its data left open. rows:
    what it draws."""

    name: str
    spec: dict[str, Any]
    rows: list[Row]


@dataclass(frozen=True)
class Chart:
    """A chart with its views, of which the first is shown at first. id: also the name of its files. by_run: whether it
    has a row for each run, in the table's order."""

    id: str
    title: str
    caption: str
    views: list[View]
    by_run: bool = False


@dataclass(frozen=True)
class Runs:
    """The results of a sweep as charts need them. keys: params in which the model runs differ. labels: by name."""

    results: Sequence[Result]
    keys: Sequence[str]
    labels: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, results: Sequence[Result]) -> Runs:
        keys = varied_keys(results, ())
        return cls(results, keys, run_labels(results, keys))

    @cached_property
    def finished(self) -> list[tuple[int, Result]]:
        """The finished model runs, with their indices among all results."""
        return [(i, run) for i, run in enumerate(self.results) if run.kind == "model" and run.status == FINISHED]

    @cached_property
    def baselines(self) -> list[Result]:
        return [run for run in self.results if run.kind == "baseline" and run.status == FINISHED]

    @cached_property
    def series_keys(self) -> list[str]:
        """Keys other than the layer that set runs apart, the one for colour first."""
        keys = [key for key in self.keys if key != "layer" and ("." not in key or key.split(".")[0] not in self.keys)]
        keys = [key for key in keys if len({str(run.params.get(key)) for _, run in self.finished}) > 1]
        first = next((key for key in COLOURED_BY if key in keys), None)
        return sorted(keys, key=lambda key: key != first)

    def fields(self, run: Result) -> Row:
        """What every chart shows of a run."""
        values = [str(run.params.get(key)) for key in self.series_keys] or [""]
        line = [str(run.params.get(key)) for key in self.series_keys if not key.startswith("aggregation")]
        shown: Row = {"label": self.labels.get(run.name, run.name), "colour": values[0]}
        shown |= {"shape": ", ".join(values[1:]) or values[0], "series": ", ".join(line)}
        spearman = interval(run, "quality/spearman")
        shown["Spearman"] = None if spearman is None else shown_interval(spearman)
        for name, key in (
            ("ms", "latency/mean_ms"),
            ("tokens", "throughput/tokens_per_s"),
            ("MiB", "memory/weights_mib"),
        ):
            value = metric(run, key)
            shown[name] = None if value is None else f"{value:,.0f}" if name == "tokens" else f"{value:.2f}"
        return {name: value for name, value in shown.items() if value is not None}

    def joined(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with the fields of their runs, as the page joins them."""
        by_index = {index: self.fields(run) for index, run in self.finished}
        return [{**by_index.get(row.get("run", -1), {}), **row} for row in rows]

    def scales(self, *, line: bool = False) -> dict[str, Any]:
        """Encodings of colour and shape (of a line: its dash): their scales know all runs, whichever are shown."""
        fields = [self.fields(run) for _, run in self.finished]
        encodings = {}
        keys = {"colour": self.series_keys[:1], "shape": self.series_keys[1:] or self.series_keys}
        for name, channel in (("colour", "color"), ("shape", "strokeDash" if line else "shape")):
            values = list(dict.fromkeys(row[name] for row in fields))
            legend = alt.Legend(title=", ".join(keys[name]), columns=4)
            scale: Row = {"domain": values}
            if name == "shape":
                cycle: list[Any] = DASHES if line else SHAPES
                scale["range"] = [cycle[i % len(cycle)] for i in range(len(values))]
            shown = 1 < len(values) <= MOST_NAMED and channel != "strokeDash"
            definition: Row = {"scale": alt.Scale(**scale), "legend": legend if shown else None}
            encodings[channel] = {"color": alt.Color, "shape": alt.Shape, "strokeDash": alt.StrokeDash}[channel](
                f"{name if len(self.series_keys) > 1 else 'colour'}:N", **definition
            )
        return encodings


def shown_interval(value: Interval, digits: int = 3) -> str:
    """`0.312 [0.251, 0.370]`."""
    return f"{value.value:.{digits}f} [{value.lo:.{digits}f}, {value.hi:.{digits}f}]"


def bounds(value: Interval) -> Row:
    """The fields of a value with its interval."""
    shown = {"value": value.value, "lo": value.lo, "hi": value.hi}
    return {name: float(f"{number:.6g}") for name, number in shown.items()}


def tooltip(*own: tuple[str, str]) -> list[alt.Tooltip]:
    """The run's label, what the chart shows (field and title), and the run's figures."""
    shared = (("Spearman", "Spearman"), ("ms", "ms per pair"), ("tokens", "tokens/s"), ("MiB", "weights MiB"))
    entries = [("label", "run"), *own, *(entry for entry in shared if entry not in own)]
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in entries]


def rows_chart() -> alt.Chart:
    """A chart of the rows, whatever they will be."""
    return alt.Chart(alt.NamedData(name=ROWS))


def picking() -> alt.Parameter:
    """Picking values in the legend; a parameter of the first layer with colour, whose legend the others join."""
    return alt.selection_point(name="picked", fields=["colour"], bind="legend")


def selections(x: bool = True) -> list[alt.Parameter]:
    """The reader's ways into the points: a brush, and a zoom by Ctrl and wheel or Shift and drag. x: whether the x axis
    zooms too."""
    zoomed: list[Any] = ["x", "y"] if x else ["y"]
    return [
        alt.selection_interval(
            name="brush",
            on="[pointerdown[!event.shiftKey], window:pointerup] > window:pointermove!",
            translate="[pointerdown[!event.shiftKey], window:pointerup] > window:pointermove!",
            zoom=False,
        ),
        alt.selection_interval(
            name="zoom",
            bind="scales",
            encodings=zoomed,
            on="[pointerdown[event.shiftKey], window:pointerup] > window:pointermove!",
            translate="[pointerdown[event.shiftKey], window:pointerup] > window:pointermove!",
            zoom="wheel![event.ctrlKey]",
        ),
    ]


def spec_of(chart: Any, **properties: Any) -> dict[str, Any]:
    """The specification as plain values; `properties` are set at its top (height, title)."""
    spec: dict[str, Any] = chart.properties(**properties).to_dict(validate=False)
    spec.pop("config", None)
    return spec


def baseline_layers(baselines: Sequence[tuple[str, float]], reach: float) -> list[Any]:
    """A dashed line with a name for each baseline; those too close for two names share one. reach: of the axis."""
    if not baselines:
        return []
    lines: list[Row] = []
    names: list[Row] = []
    for number, (name, value) in enumerate(sorted(baselines, key=lambda entry: entry[1])):
        lines.append({"at": value, "dash": str(number % 3)})
        text = f"{name} {value:.3f}"
        if names and value - names[-1]["at"] < 0.05 * reach:
            names[-1] = {"at": value, "name": f"{names[-1]['name']}, {text}"}
        else:
            names.append({"at": value, "name": text})
    scale = alt.Scale(domain=["0", "1", "2"], range=[[6, 4], [2, 3], [9, 3, 2, 3]])
    dash = alt.StrokeDash("dash:N", scale=scale, legend=None)
    rules = alt.Chart(alt.InlineData(values=lines)).mark_rule(style="baseline").encode(y="at:Q", strokeDash=dash)
    text_marks = alt.Chart(alt.InlineData(values=names)).mark_text(style="baseline-name")
    return [rules, text_marks.encode(y="at:Q", x=alt.value(0), text="name:N")]
