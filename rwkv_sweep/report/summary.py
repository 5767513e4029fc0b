"""The table at the end of a sweep, on the terminal and as a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rwkv_sweep.config.params import GROUPS
from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.records.csv_tables import table_text
from rwkv_sweep.records.results import FINISHED, PAGE_FILE, SUMMARY_FILE, Result
from rwkv_sweep.report.column_meanings import DROPPED_FIRST, RULES, column_meanings
from rwkv_sweep.report.common.splits import spearman_key, split_names
from rwkv_sweep.report.common.statements import Answer
from rwkv_sweep.report.plain_sweep.tasks import task_columns
from rwkv_sweep.report.speeds.precisions import is_full
from rwkv_sweep.report.speeds.speeds import BATCHES, PAIRS
from rwkv_sweep.report.stage_times import where_time_went
from rwkv_sweep.utils.files import write_atomically

if TYPE_CHECKING:
    from rwkv_sweep.records.sweep_record import SweepRecord

WIDE = 200
"""Columns of the table where the output is a file or a pipe."""
MOST_SECTIONS = 3
"""Sections of an answer that the terminal shows; the page has all."""
TEXT = ("layer", "precision")
Cell = Callable[[Result], str]


def write_summary(results: Sequence[Result], root: Path) -> Path:
    """Write `summary.csv` into the sweep's folder: a row a run with all params and metrics. Returns its path."""
    params = list(dict.fromkeys(key for result in results for key in result.params))
    metrics = list(dict.fromkeys(key for result in results for key in result.metrics))
    rows = [
        [result.name, result.kind, result.status]
        + [result.params.get(key, "") for key in params]
        + [result.metrics.get(key, "") for key in metrics]
        for result in results
    ]
    path = root / SUMMARY_FILE
    write_atomically(path, table_text(["name", "kind", "status", *params, *metrics], rows))
    return path


def summary_rows(results: Sequence[Result], swept: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The table as on a wide terminal: names of the columns, then the cells of each run. swept: keys, as typed."""
    columns = _columns(results, swept)
    return [name for name, _ in columns], [[cell(result) for _, cell in columns] for result in results]


def print_summary(results: Sequence[Result], record: SweepRecord, root: Path, answer: Answer | None = None) -> None:
    """One line a run, the answer, then what failed and why, where all of it is stored, and how to look at it."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(record.name, style="bold", markup=False, highlight=False)
    _print_table(console, results, _columns(results, record.swept))
    if answer is not None and results:
        _print_answer(console, answer)
    for result in results:
        if result.error is not None:
            console.print(f"{result.status} {result.name}: {result.error['message']}", style="red", markup=False)

    def line(name: str, text: object) -> None:
        console.print(f"{name:<9}{text}", markup=False, highlight=False)

    if record.started:
        line("time", where_time_went(results, record.started, time.time()))
    line("results", root)
    if (root / PAGE_FILE).exists():
        line("report", root / PAGE_FILE)
    tracking = TrackingConfig(**record.tracking)
    if tracking.enabled:
        from rwkv_sweep.tracking import ui_command

        line("look", ui_command(tracking))


def _print_table(console: Console, results: Sequence[Result], columns: Sequence[tuple[str, Cell]]) -> None:
    """The table with as many columns as the terminal is wide enough for, which it lacks, and what they mean."""
    kept, table = list(columns), _table(results, columns)
    for start in DROPPED_FIRST:
        # Measured as if there were no edge: the terminal's own width would limit what the table asks for.
        if Measurement.get(console, console.options.update_width(10 * WIDE), table).maximum <= console.width:
            break
        kept = [column for column in kept if not column[0].startswith(start)]
        table = _table(results, kept)
    console.print(table)
    dropped = [name for name, _ in columns if name not in dict(kept)]
    if dropped:
        text = f"This terminal is too narrow for {', '.join(dropped)}; see {SUMMARY_FILE}."
        console.print(text, style="dim", markup=False, highlight=False)
    if meanings := column_meanings([name for name, _ in kept]):
        console.print(meanings, style="dim", markup=False, highlight=False)
    console.print()


def _print_answer(console: Console, answer: Answer) -> None:
    console.print(answer.question, style="bold", markup=False, highlight=False)
    sections = answer.bullets()
    for name, sentences in sections[:MOST_SECTIONS]:
        if name:
            console.print(f"{name}:", markup=False, highlight=False)
        for sentence in sentences:
            lines = Text(sentence).wrap(console, max(20, console.width - 2)) if console.is_terminal else [sentence]
            for number, line in enumerate(lines):
                console.print(f"{'  ' if number else '- '}{line}", markup=False, highlight=False, soft_wrap=True)
    if len(sections) > MOST_SECTIONS:
        console.print(f"... and {len(sections) - MOST_SECTIONS} more groups of runs, on the page", markup=False)
    console.print()


def _table(results: Sequence[Result], columns: Sequence[tuple[str, Cell]]) -> Table:
    table = Table(box=RULES, header_style="bold", padding=(0, 1), pad_edge=False)
    keys = {key for result in results for key in result.params} | {*TEXT}
    for name, _ in columns:
        table.add_column(name, justify="left" if name in keys else "right", no_wrap=True)
    above = False
    for result in results:
        cells = [escape(cell(result)) for _, cell in columns]
        if above and not _is_model(result):
            table.add_section()
        above = _is_model(result)
        style = "italic" if not above else None
        table.add_row(*cells, style=style if result.status == FINISHED else "red")
    return table


def _columns(results: Sequence[Result], swept: Sequence[str]) -> list[tuple[str, Cell]]:
    known = {key for result in results for key in result.params}
    varied = [key for key in GROUPS if len({result.params.get(key) for result in results if _is_model(result)}) > 1]
    shown = list(dict.fromkeys(["layer", "precision", *varied, *(key for key in swept if key in known)]))
    # A baseline has no layer; its name stands in that place.
    columns: list[tuple[str, Cell]] = [(key, _param(key)) for key in shown]
    columns[0] = ("layer", lambda result: str(result.params.get("layer", result.name)))
    return [*columns, *_quality_columns(results), *_cost_columns(results)]


def _quality_columns(results: Sequence[Result]) -> list[tuple[str, Cell]]:
    """Spearman of each split, under its name where there are several, and the differences, which are of the first."""
    splits = split_names(results)
    columns = [(f"Spearman {name} [95 %]", _interval(spearman_key(name))) for name in splits]
    if len(splits) < 2:
        columns = [("Spearman [95 %]", _interval("quality/spearman"))]
    where = f", {splits[0]}" if len(splits) > 1 else ""
    baselines = dict.fromkeys(
        key for result in results for key in result.metrics if key.startswith("baseline/") and key.endswith("/delta")
    )
    columns += [(f"vs {key.split('/')[1]}{where}", _metric(key, "+.4f")) for key in baselines]
    return columns + _described_columns(results)


def _described_columns(results: Sequence[Result]) -> list[tuple[str, Cell]]:
    """The probe, and where nothing was timed, so that there is space for them, some representation metrics."""
    measured = {key for result in results for key in result.metrics}
    probes = [name for name in ("accuracy", "spearman") if f"probe/{name}" in measured]
    columns = [(f"probe {name} [95 %]", _interval(f"probe/{name}")) for name in probes]
    if measured & {"latency/mean_ms", "throughput/tokens_per_s"}:
        return columns
    keys = {"effective_rank": ".1f", "anisotropy": ".3f", "infonce": ".3f"}
    known = [name for name in keys if f"representation/{name}" in measured]
    columns += [(name.replace("_", " "), _metric(f"representation/{name}", keys[name])) for name in known]
    return columns + task_columns(results)


def _cost_columns(results: Sequence[Result]) -> list[tuple[str, Cell]]:
    """Speed and memory. What was timed interleaved, where a sweep has that, stands in place of times that were taken
    one run after another: beside each other these would look as if they could be compared."""
    models = [result for result in results if _is_model(result)]
    columns: list[tuple[str, Cell]] = []
    for regime in (PAIRS, BATCHES):
        kind = "pair" if regime is PAIRS else "batch"
        if any(regime.overhead in result.metrics for result in models):
            columns.append((f"{kind} time / final [95 %]", _ratio(regime.overhead, lambda result: False)))
        if any(regime.over_fp32 in result.metrics for result in models):
            columns.append((f"{kind} speed / fp32 [95 %]", _ratio(regime.over_fp32, is_full)))
    if not any(regime.overhead in result.metrics for result in models for regime in (PAIRS, BATCHES)):
        columns.append(("ms/pair", _metric("latency/mean_ms", ".2f")))
        if not columns[:-1]:
            columns.append(("p99 ms", _metric("latency/p99_ms", ".2f")))
        columns.append(("tokens/s", _metric("throughput/tokens_per_s", ",.0f")))
    if len({result.metrics.get("memory/vector_bytes") for result in models if result.status == FINISHED}) > 1:
        columns.append(("bytes/vector", _metric("memory/vector_bytes", ",.0f")))
    columns.append(("weights MiB", _metric("memory/weights_mib", ",.1f")))
    device = any("memory/peak_allocated_mib" in result.metrics for result in models)
    return [*columns, ("peak MiB" if device else "process MiB", _peak)]


def _is_model(result: Result) -> bool:
    return result.kind == "model"


def _param(key: str) -> Cell:
    return lambda result: str(result.params.get(key, ""))


def _metric(key: str, form: str) -> Cell:
    return lambda result: format(result.metrics[key], form) if key in result.metrics else ""


def _interval(key: str) -> Cell:
    def cell(result: Result) -> str:
        if key not in result.metrics:
            return "" if result.status == FINISHED else result.status
        value, low, high = (result.metrics.get(f"{key}{suffix}") for suffix in ("", "_lo", "_hi"))
        return f"{value:.4f}" if low is None or high is None else f"{value:.4f} [{low:.3f}, {high:.3f}]"

    return cell


def _ratio(key: str, is_reference: Callable[[Result], bool]) -> Cell:
    """A ratio of interleaved times with its interval."""

    def cell(result: Result) -> str:
        if not all(f"{key}{suffix}" in result.metrics for suffix in ("", "_lo", "_hi")):
            return "reference" if _is_model(result) and result.status == FINISHED and is_reference(result) else ""
        low, high = result.metrics[f"{key}_lo"], result.metrics[f"{key}_hi"]
        return f"{result.metrics[key]:.2f} [{low:.2f}, {high:.2f}]"

    return cell


def _peak(result: Result) -> str:
    """Peak of the device's memory; of the process where the device is the CPU."""
    value = result.metrics.get("memory/peak_allocated_mib", result.metrics.get("memory/process_peak_mib"))
    return "" if value is None else f"{value:,.0f}"
