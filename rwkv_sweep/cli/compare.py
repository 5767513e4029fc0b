"""Two sweeps side by side: what changed between them, and by how much, in quality and in speed.

    rwkv-sweep compare A B [--html FILE]

A and B are folders of sweeps or of runs: of two commits, machines, models, or of anything else that a run can be given.
A run of A stands beside the run of B that has the same value of every key that varies within A or within B. Differences
are B less A, ratios B over A; what is no more than noise is not flagged.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rwkv_sweep.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rwkv_sweep.report.comparison.differences import Compared, SweepComparison
    from rwkv_sweep.report.comparison.matching import Matching, Sweep

WIDE = 200
"""Columns where the output is a file or a pipe."""
METRICS = (
    ("tokens/s", "throughput/tokens_per_s", ",.0f"),
    ("weights MiB", "memory/weights_mib", ",.1f"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two folders, and how they are compared."""
    parser.add_argument("a", metavar="A", type=Path)
    parser.add_argument("b", metavar="B", type=Path)
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write a page with tables and charts")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")


def run(args: argparse.Namespace) -> int:
    """Print the comparison, and write its page where one was asked for."""
    if args.resamples < 1:
        raise UserError(f"--resamples={args.resamples} is too few: valid is 1 or more")
    # Imported here, so that --help is quick.
    from rwkv_sweep.report.comparison.differences import compare_runs
    from rwkv_sweep.report.comparison.matching import load_sweep, match

    a, b = load_sweep("A", args.a), load_sweep("B", args.b)
    matching = match(a, b)
    comparison = compare_runs(a, b, matching, args.resamples, args.seed)
    _print(a, b, matching, comparison)
    if args.html is not None:
        from rwkv_sweep.report.comparison.page import write_compare_page

        try:
            print(f"page     {write_compare_page(args.html, a, b, matching, comparison)}")
        except OSError as error:
            raise UserError(f"--html={args.html} cannot be written: {error.strerror}") from error
    return 0


def _print(a: Sweep, b: Sweep, matching: Matching, comparison: SweepComparison) -> None:
    from rich.console import Console

    from rwkv_sweep.report.comparison.differences import conclusion

    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    _line(console, f"A        {a.root}")
    _line(console, f"B        {b.root}")
    for kind, changes in (("param", matching.params), ("ran on", matching.tags)):
        for change in changes:
            _line(console, f"changed  {kind} {change.key}: {change.a} -> {change.b}")
    if not matching.params and not matching.tags:
        _line(console, "changed  nothing that the records hold")
    console.print(_table(comparison.runs))
    for name, ratio in comparison.control.items():
        _line(console, f"control  {name}: time {ratio.value:.3f} [{ratio.lo:.3f}, {ratio.hi:.3f}] of A's")
    for label, names in (("A", matching.only_a), ("B", matching.only_b)):
        if names:
            _line(console, f"only {label}   {len(names)}: {'; '.join(names[:10])}{'; ...' if len(names) > 10 else ''}")
    for sentence in conclusion(comparison):
        _line(console, sentence)


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _table(runs: list[Compared]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("run")
    names = ("Spearman A", "B", "B - A [95 %]", "p, Holm", "ms A", "B", "time B / A [95 %]")
    for name in (*names, *(name for heading, _, _ in METRICS for name in (f"{heading} A", "B")), "more than noise"):
        table.add_column(name, justify="right")
    for run in runs:
        table.add_row(*(escape(cell) for cell in _cells(run)), style="bold" if _flags(run) else None)
    return table


def _cells(run: Compared) -> list[str]:
    from rwkv_sweep.report.common.text import with_interval

    sides = (run.matched.a, run.matched.b)

    def both(key: str, form: str) -> list[str]:
        return [format(side.metrics[key], form) if key in side.metrics else "" for side in sides]

    return [
        run.matched.name,
        *both("quality/spearman", ".4f"),
        with_interval(run.quality, "+.4f") if run.quality else run.no_quality,
        "" if run.adjusted is None else f"{run.adjusted:.3g}",
        *both("latency/mean_ms", ".2f"),
        with_interval(run.latency) if run.latency else run.no_latency,
        *(cell for _, key, form in METRICS for cell in both(key, form)),
        _flags(run),
    ]


def _flags(run: Compared) -> str:
    from rwkv_sweep.report.comparison.differences import verdicts

    return ", ".join(verdicts(run))
