"""How MLflow's pages show the experiment: what it is about, its kind, and a view with useful columns and charts.

The view is written as MLflow 3's own button "Share" writes one, into a tag of the experiment; a link that ends in
`?viewStateShareKey=results` opens it. Whatever a page does not know of it, it leaves out.
"""

from __future__ import annotations

import json
from typing import Any

VIEW = "results"
_COLUMNS = (
    *("params.`layer`", "params.`precision`", "metrics.`quality/spearman`", "metrics.`latency/mean_ms`"),
    *("metrics.`throughput/tokens_per_s`", "metrics.`memory/weights_mib`", "params.`pooling`", "params.`aggregation`"),
)
_SECTION = "rwkv_sweep-results"
_SPEARMAN, _LATENCY, _THROUGHPUT = "quality/spearman", "latency/mean_ms", "throughput/tokens_per_s"
_RUNS_IN_A_CHART = 100
_ABOUT = """\
Sentence embeddings from chosen blocks of pre-trained RWKV models. A sweep is a parent run with a child for each job
and for each baseline; the parent's description is its table, and its artifact `report.html` its page.

- `quality/spearman`: rank correlation of cosine and label, with 95 % bounds `_lo` and `_hi`
- `baseline/NAME/delta`: Spearman less that of a baseline
- `latency/mean_ms`: two strings in, one score out; `throughput/tokens_per_s`: in packed batches
- `memory/weights_mib`: parameters, buffers and scales
"""


def experiment_tags() -> dict[str, str]:
    """Tags of the experiment: description, kind (MLflow then shows runs, not traces, first), and the view."""
    return {
        "mlflow.note.content": _ABOUT,
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(_view()),
    }


def _view() -> dict[str, Any]:
    axes = {"xaxis": {"key": _THROUGHPUT, "type": "METRIC"}, "yaxis": {"key": _SPEARMAN, "type": "METRIC"}}
    # Blocks run, not the layer: an axis of numbers cannot show `final`.
    along = {"selectedParams": ["depth", "precision"], "selectedMetrics": [_LATENCY, _SPEARMAN], "showAllRuns": False}
    return {
        # Sorted by a metric, runs stand in one list: nested under their parent they would be folded away.
        "orderByKey": f"metrics.`{_SPEARMAN}`",
        "orderByAsc": False,
        "selectedColumns": _COLUMNS,
        "runsHiddenMode": "SHOW_ALL",
        # Ours before the sections that MLflow makes of all metrics, by name.
        "isAccordionReordered": True,
        "compareRunSections": [{"uuid": _SECTION, "name": "Results", "display": True, "isReordered": False}],
        "compareRunCharts": [
            _chart("SCATTER", "Quality against speed", axes),
            _chart("PARALLEL", "Depth, precision, speed, quality", along),
            _chart("BAR", "Spearman", {"metricKey": _SPEARMAN}),
            _chart("BAR", "Time of a pair, ms", {"metricKey": _LATENCY}),
        ],
    }


def _chart(kind: str, name: str, shown: dict[str, Any]) -> dict[str, Any]:
    place = {"uuid": f"{_SECTION}-{name}", "metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
    return {**place, "type": kind, "displayName": name, "runsCountToCompare": _RUNS_IN_A_CHART, **shown}
