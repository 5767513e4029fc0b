"""The report on several models side by side: answer, a table for each model, figures, notes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.notes import failures
from rwkv_sweep.report.common.ranking import rankings
from rwkv_sweep.report.common.run_groups import interval, layer, metric
from rwkv_sweep.report.common.statements import Records
from rwkv_sweep.report.common.text import (
    ABSENT,
    bullets,
    csv_text,
    escaped,
    formatted,
    paragraphs,
    table,
    with_interval,
)
from rwkv_sweep.report.generations.answer import QUESTION, generations_answer
from rwkv_sweep.report.generations.figures import draw_by_depth
from rwkv_sweep.report.generations.models import (
    ModelRuns,
    memory_mib,
    microseconds_per_token,
    model_runs,
)
from rwkv_sweep.utils.files import write_atomically

CAPTIONS = {
    "quality": "Spearman by the share of a model's blocks that run, 95 % intervals.",
    "time": "Microseconds a token in packed batches, by the share of a model's blocks that run.",
}
COLUMNS = (
    "layer",
    "share of blocks",
    "Spearman [95 %]",
    "us/token [95 %]",
    "tokens/s beside the reference [95 %]",
    "ms/pair",
    "weights MiB",
    "peak MiB",
)
SPEED_NOTE = (
    "Models are timed one after another. To compare their tokens/s, take the column beside the reference: each rate is "
    "divided by that of a matrix product timed between its passes. Differences of a few percent are noise."
)
DEPTH_NOTE = (
    "Share of blocks: 0 is the input embedding, 1 the last block, raw and (final) after the norm. Models of other "
    "widths have other costs at the same share."
)


def write_generations_report(records: Records, folder: Path) -> list[Path]:
    """Write everything into `folder`; return the paths, report.md first."""
    results = records.results
    figures = draw_by_depth(results, folder)
    report, rows = folder / "report.md", folder / "table.csv"
    write_atomically(report, _markdown(records, figures))
    write_atomically(rows, _csv(results))
    return [report, rows, *figures]


def _markdown(records: Records, figures: Sequence[Path]) -> str:
    results = records.results
    parts = ["# Models side by side", QUESTION, "## Answer"]
    parts += bullets(generations_answer(records, rankings(records), ()))
    for model in model_runs(results):
        parts += [f"## {escaped(model.name)}", _table(model)]
    drawn = {path.stem: path.name for path in figures if path.suffix == ".svg"}
    parts += ["## Figures"] if drawn else []
    parts += [f"![{CAPTIONS[stem]}]({name})\n\n{CAPTIONS[stem]}" for stem, name in drawn.items()]
    parts += ["## Notes", f"- {SPEED_NOTE}", f"- {DEPTH_NOTE}"]
    failed = failures(results)
    parts += ["## Failures", *(f"- {line}" for line in failed)] if failed else []
    return paragraphs(parts)


def _table(model: ModelRuns) -> str:
    rows = []
    for run in model.runs:
        share = model.relative_depth(run)
        rows.append(
            [
                layer(run),
                ABSENT if share is None else f"{share:.2f}",
                with_interval(interval(run, "quality/spearman")),
                with_interval(microseconds_per_token(run), ".3g"),
                with_interval(interval(run, "throughput/ratio"), ".3g"),
                formatted(metric(run, "latency/mean_ms"), ".2f"),
                formatted(metric(run, "memory/weights_mib"), ".1f"),
                formatted(memory_mib(run), ".0f"),
            ]
        )
    return table(COLUMNS, rows)


def _csv(results: Sequence[Result]) -> str:
    """A row for each run and baseline."""
    models = {run.name: model for model in model_runs(results) for run in model.runs}
    labels = {run.name: (layer(run), model.name) for model in models.values() for run in model.runs}

    def share(run: Result) -> object:
        model = models.get(run.name)
        value = None if model is None else model.relative_depth(run)
        return "" if value is None else value

    def time(run: Result) -> object:
        value = microseconds_per_token(run)
        return "" if value is None else value.value

    return csv_text(results, labels, {"share_of_blocks": share, "us_per_token": time})
