"""The table at the end of a sweep, on the terminal and as a file."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from rwkv_sweep.config import TrackingConfig
from rwkv_sweep.params import GROUPS
from rwkv_sweep.results import FINISHED, PAGE_FILE, SUMMARY_FILE, Result, write_atomically
from rwkv_sweep.stopwatch import STAGES

if TYPE_CHECKING:
    from rwkv_sweep.sweep_record import SweepRecord

WIDE = 200
"""Columns of the table where the output is a file or a pipe."""
NUMBERS = {"Spearman [95 %]", "ms/pair", "p99 ms", "tokens/s", "weights MiB", "peak MiB"}
DROPPED_FIRST = ("p99 ms", "weights MiB", "vs word_overlap", "vs word_vectors")
"""What a narrow terminal leaves out; summary.csv has it all."""

Cell = Callable[[Result], str]


def write_summary(results: Sequence[Result], root: Path) -> Path:
    """Write `summary.csv` into the sweep's folder: a row a run with all params and metrics. Returns its path."""
    params = list(dict.fromkeys(key for result in results for key in result.params))
    metrics = list(dict.fromkeys(key for result in results for key in result.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "kind", "status", *params, *metrics])
    for result in results:
        values = [result.params.get(key, "") for key in params] + [result.metrics.get(key, "") for key in metrics]
        writer.writerow([result.name, result.kind, result.status, *values])
    path = root / SUMMARY_FILE
    write_atomically(path, text.getvalue())
    return path


def summary_rows(results: Sequence[Result], swept: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The table as on a wide terminal: names of the columns, then the cells of each run. swept: keys, as typed."""
    columns = _columns(results, swept)
    return [name for name, _ in columns], [[cell(result) for _, cell in columns] for result in results]


def print_summary(results: Sequence[Result], record: SweepRecord, root: Path) -> None:
    """One line a run, then what failed and why, where all of it lies, and how to look at it."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    columns = _columns(results, record.swept)
    table = _table(results, columns)
    for name in DROPPED_FIRST:
        # Measured with room to spare: the terminal's own width would cap what the table asks for.
        if Measurement.get(console, console.options.update_width(10 * WIDE), table).maximum <= console.width:
            break
        columns = [column for column in columns if column[0] != name]
        table = _table(results, columns)
    console.print(record.name, style="bold", markup=False, highlight=False)
    console.print(table)
    for result in results:
        if result.error is not None:
            console.print(f"{result.status} {result.name}: {result.error['message']}", style="red", markup=False)
    if record.started:
        spent = where_time_went(results, time.time() - record.started)
        console.print(f"time     {spent}", markup=False, highlight=False)
    console.print(f"results  {root}", markup=False, highlight=False)
    if (root / PAGE_FILE).exists():
        console.print(f"report   {root / PAGE_FILE}", markup=False, highlight=False)
    tracking = TrackingConfig(**record.tracking)
    if tracking.enabled:
        from rwkv_sweep.tracking import ui_command

        console.print(f"look     {ui_command(tracking)}", markup=False, highlight=False)


def where_time_went(results: Sequence[Result], total_s: float) -> str:
    """Seconds of the sweep by stage, summed over its runs; `rest` is what no run accounts for (start, baselines,
    report)."""
    sums = {name: sum(result.metrics.get(f"time/{name}_s", 0.0) for result in results) for name in STAGES}
    parts = [f"{name} {seconds:.1f}" for name, seconds in sums.items() if seconds]
    return f"{total_s:.1f} s: {', '.join([*parts, f'rest {max(0.0, total_s - sum(sums.values())):.1f}'])}"


def _table(results: Sequence[Result], columns: Sequence[tuple[str, Cell]]) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False)
    numbers = {name for name, _ in columns} & NUMBERS
    for name, _ in columns:
        table.add_column(name, justify="right" if name in numbers or name.startswith("vs ") else "left", no_wrap=True)
    for result in results:
        cells = [escape(cell(result)) for _, cell in columns]
        table.add_row(*cells, style=None if result.status == FINISHED else "red")
    return table


def _columns(results: Sequence[Result], swept: Sequence[str]) -> list[tuple[str, Cell]]:
    known = {key for result in results for key in result.params}
    varied = [key for key in GROUPS if len({result.params.get(key) for result in results if _is_model(result)}) > 1]
    shown = list(dict.fromkeys(["layer", "precision", *varied, *(key for key in swept if key in known)]))
    # A baseline has no layer; its name stands in that place.
    columns: list[tuple[str, Cell]] = [(key, _param(key)) for key in shown]
    columns[0] = ("layer", lambda result: str(result.params.get("layer", result.name)))
    columns.append(("Spearman [95 %]", _interval("quality/spearman")))
    baselines = dict.fromkeys(
        key for result in results for key in result.metrics if key.startswith("baseline/") and key.endswith("/delta")
    )
    columns += [(f"vs {key.split('/')[1]}", _metric(key, "+.4f")) for key in baselines]
    columns += [
        ("ms/pair", _metric("latency/mean_ms", ".2f")),
        ("p99 ms", _metric("latency/p99_ms", ".2f")),
        ("tokens/s", _metric("throughput/tokens_per_s", ",.0f")),
        ("weights MiB", _metric("memory/weights_mib", ",.1f")),
        ("peak MiB", _peak),
    ]
    return columns


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
        low, high = result.metrics[f"{key}_lo"], result.metrics[f"{key}_hi"]
        return f"{result.metrics[key]:.4f} [{low:.3f}, {high:.3f}]"

    return cell


def _peak(result: Result) -> str:
    """Peak of the device's memory; of the process where the device is the CPU."""
    value = result.metrics.get("memory/peak_allocated_mib", result.metrics.get("memory/process_peak_mib"))
    return "" if value is None else f"{value:,.0f}"
