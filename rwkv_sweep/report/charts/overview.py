"""The charts of any sweep: those of its page, and two of them as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rwkv_sweep.report.charts.by_run import latency_view, overhead_view, parity_views
from rwkv_sweep.report.charts.chart import Chart, Runs, View
from rwkv_sweep.report.charts.costs import cost_view, memory_costs, speed_costs
from rwkv_sweep.report.charts.files import write_views
from rwkv_sweep.report.charts.heat import heat_views
from rwkv_sweep.report.charts.layers import layers_view
from rwkv_sweep.report.common.splits import spearman_key, split_names
from rwkv_sweep.report.findings.findings import Findings

BY_LAYER = (
    ("latency/mean_ms", "ms per pair, timed one after another"),
    ("throughput/tokens_per_s", "tokens/s, timed one after another"),
    ("representation/effective_rank", "effective rank"),
    ("representation/anisotropy", "anisotropy"),
    ("representation/infonce", "InfoNCE"),
)
"""What else the chart by layer can show, where it was measured."""
UNBEATEN = (
    "Filled and named: runs that no other is shown to beat in one of both without being worse in the other. "
    "Differences within noise do not count."
)


def runs_of(findings: Findings) -> Runs:
    return Runs(findings.records.results, findings.keys, findings.labels)


def page_charts(findings: Findings, runs: Runs, quantiles: Mapping[int, Sequence[float]]) -> list[Chart]:
    """The charts that have something to show, in the page's order. quantiles: of latency, by index of the run."""
    overhead, latency = overhead_view(runs), latency_view(runs, quantiles)
    charts = [
        Chart(
            "layers",
            "Spearman" + next((f" by {key}" for key in ("layer", "aggregation") if key in findings.keys), ""),
            "Points with 95 % bootstrap intervals over pairs; dashed lines without points are the baselines. The best "
            f"of {len(runs.finished)} runs was chosen after looking, so its own number is optimistic.",
            _layer_views(runs),
        ),
        Chart(
            "speed",
            "Quality against speed",
            f"{UNBEATEN} Where runs were timed one after another there are none such: speeds of different times do not "
            "compare.",
            _present([cost_view(runs, cost, findings.ranked) for cost in speed_costs(runs)]),
        ),
        Chart(
            "memory",
            "Quality against memory",
            UNBEATEN,
            _present([cost_view(runs, cost, findings.ranked) for cost in memory_costs(runs)]),
        ),
        Chart("map", "Heat map", "Darker (lighter on a dark ground) is more. Empty cells were not run, or did not "
              "finish. Runs that differ in other keys stand in maps of their own.", heat_views(runs)),
        Chart(
            "latency",
            "Latency of one pair",
            "Box: the middle half; line: 5 to 95 %; mark: the median. Runs were timed one after another, so a busy "
            "machine shows too.",
            _present([latency]), by_run=True,
        ),
        Chart(
            "overhead",
            "Overhead over final-layer inference",
            "Both timed interleaved in one process on the same sentences. An interval that contains 1 does not show "
            "that there is no overhead: its upper bound is what can be excluded. The final layer's own ratio is the "
            "control.",
            _present([overhead]), by_run=True,
        ),
        Chart(
            "parity",
            "Parity with fp32",
            "The same sentences in fp32 on the same device. Of vectors: the mean cosine, the line reaches to the first "
            "percentile. Of Spearman: paired bootstrap.",
            parity_views(runs), by_run=True,
        ),
    ]  # fmt: skip
    return [chart for chart in charts if chart.views]


def write_overview(findings: Findings, folder: Path) -> list[Path]:
    """Draw what there is to draw into `folder`, as SVG and PNG; return the paths, none where no run has a Spearman."""
    runs = runs_of(findings)
    views = {"spearman_by_layer": layers_view(runs), "quality_against_speed": speed_view(findings)}
    return write_views(list(views.items()), runs, folder)


def speed_view(findings: Findings) -> View | None:
    """Spearman over speed, with the runs named that no other is shown to beat; None where no run has both."""
    runs = runs_of(findings)
    views = _present([cost_view(runs, cost, findings.ranked) for cost in speed_costs(runs)[:1]])
    return views[0] if views else None


def _layer_views(runs: Runs) -> list[View]:
    splits = split_names(runs.results)
    keys = [(spearman_key(split), f"Spearman, {split}") for split in splits] if len(splits) > 1 else []
    if not keys:
        keys = [("quality/spearman", "Spearman")]
    quality = _present([layers_view(runs, key, title) for key, title in keys])
    return quality + _present([layers_view(runs, key, title) for key, title in BY_LAYER]) if quality else []


def _present(views: Sequence[View | None]) -> list[View]:
    return [view for view in views if view is not None]
