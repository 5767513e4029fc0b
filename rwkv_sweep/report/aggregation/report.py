"""The report on research question 1: answer, tables, figures, and all a reader must know to trust them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.aggregation.answer import QUESTION, aggregation_answer
from rwkv_sweep.report.charts.aggregation import write_figures
from rwkv_sweep.report.common.comparisons import Comparison, comparisons
from rwkv_sweep.report.common.notes import failures, missing, notes
from rwkv_sweep.report.common.run_groups import Group, depth, groups, interval, metric
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
from rwkv_sweep.stats.multiple_testing import FINAL
from rwkv_sweep.utils.files import write_atomically

CAPTIONS = {
    "latency_ratio": "Time of each configuration over that of final-layer inference, 95 % intervals.",
    "quality": "Spearman by layer and by aggregation, 95 % intervals.",
}
COST = (
    "layers",
    "blocks run",
    "time ratio, single pairs",
    "median of rounds",
    "time ratio, full batches",
    "median of rounds",
    "kept layers, single pairs",
    "kept layers, full batches",
    "peak MiB",
    "kept layers, peak MiB",
    "ms per pair alone",
    "tokens/s alone",
)
RATIOS = (
    "latency_ratio",
    "latency_ratio_median",
    "batch_ratio",
    "batch_ratio_median",
    "naive_latency_ratio",
    "naive_batch_ratio",
)
QUALITY = ("layers", "Spearman [95 %]", "less final layer [95 %]", "p", "p, Holm")
SURVIVES = " (s)"


def write_aggregation_report(results: Sequence[Result], folder: Path, folders: Sequence[Path] = ()) -> list[Path]:
    """Write everything into `folder`; return the paths, report.md first. folders: of the results, in their order."""
    figures = write_figures(results, folder)
    report, rows = folder / "report.md", folder / "table.csv"
    write_atomically(report, _markdown(Records(results, folders), figures))
    write_atomically(rows, _csv(results))
    return [report, rows, *figures]


def _markdown(records: Records, figures: Sequence[Path]) -> str:
    results = records.results
    family, run_groups = comparisons(results), groups(results)
    parts = ["# What aggregating layers costs, and what it brings", QUESTION, "## Answer"]
    parts += bullets(aggregation_answer(results, records))
    parts += [f"- {line}" for line in missing(results)]
    for group in run_groups:
        suffix = f": {escaped(group.name)}" if group.name else ""
        parts += [f"## Cost{suffix}", _cost_table(group), f"## Quality{suffix}", _quality_table(group, results, family)]
    drawn = {path.stem: path.name for path in figures if path.suffix == ".svg"}
    parts += ["## Figures"] if drawn else []
    parts += [f"![{CAPTIONS[stem]}]({name})\n\n{CAPTIONS[stem]}" for stem, name in drawn.items()]
    parts += ["## Notes", *(f"- {line}" for line in notes(results, family))]
    failed = failures(results)
    parts += ["## Failures", *(f"- {line}" for line in failed)] if failed else []
    return paragraphs(parts)


def _cost_table(group: Group) -> str:
    rows = []
    for run in group.runs:
        ratios = [with_interval(interval(run, f"overhead/{key}")) for key in RATIOS]
        memory = [formatted(metric(run, f"overhead/{key}"), "+.1f") for key in ("memory_mib", "naive_memory_mib")]
        speed = [
            formatted(metric(run, "latency/mean_ms"), ".2f"),
            formatted(metric(run, "throughput/tokens_per_s"), ",.0f"),
        ]
        rows.append([group.label(run), str(depth(run) or ABSENT), *ratios, *memory, *speed])
    return table(COST, rows)


def _quality_table(group: Group, results: Sequence[Result], family: Sequence[Comparison]) -> str:
    against = {(comparison.run, comparison.against): comparison for comparison in family}
    names = _baseline_names(results)
    rows = []
    for run in group.runs:
        reference = run is group.final and metric(run, "final/delta") is None
        row = [group.label(run), with_interval(interval(run, "quality/spearman"))]
        row.append("reference" if reference else with_interval(interval(run, "final/delta"), "+.3f"))
        row += _p_values(against.get((run.name, FINAL)))
        row += [
            with_interval(interval(run, f"baseline/{name}/delta"), "+.3f") + _mark(against.get((run.name, name)))
            for name in names
        ]
        rows.append(row)
    for result in results:
        if result.kind == "baseline":
            rows.append([result.name, with_interval(interval(result, "quality/spearman")), *[""] * (3 + len(names))])
    return table([*QUALITY, *(f"less {name} [95 %]" for name in names)], rows)


def _p_values(comparison: Comparison | None) -> list[str]:
    return ["", ""] if comparison is None else [f"{comparison.p:.3g}", f"{comparison.adjusted:.3g}{_mark(comparison)}"]


def _mark(comparison: Comparison | None) -> str:
    return SURVIVES if comparison is not None and comparison.survives else ""


def _baseline_names(results: Sequence[Result]) -> list[str]:
    """Baselines that any run was compared with, in order."""
    keys = [key.split("/") for result in results for key in result.metrics if key.startswith("baseline/")]
    return list(dict.fromkeys(key[1] for key in keys if key[-1] == "delta"))


def _csv(results: Sequence[Result]) -> str:
    """A row for each run and baseline, with its p-values adjusted."""
    adjusted = {(comparison.run, comparison.against): comparison.adjusted for comparison in comparisons(results)}
    labels = {run.name: (group.label(run), group.name) for group in groups(results) for run in group.runs}

    def column(against: str) -> Callable[[Result], object]:
        return lambda run: adjusted.get((run.name, against), "")

    against = dict.fromkeys(reference for _, reference in adjusted)
    return csv_text(results, labels, {f"{name}/delta_p_holm": column(name) for name in against})
