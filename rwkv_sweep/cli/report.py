"""Write the report of a sweep again, from its records: report.html, summary.csv, summary.md, and figures in report/.

    rwkv-sweep report FOLDER
    rwkv-sweep report A B C [--out PAGE]

FOLDER is that of a sweep or of a single run, as the end of either names it. Runs that finished after the last report,
or that an interruption left without one, are in the new one. Several folders (of models, generations, commits) become
one page, by default sweeps.html, and nothing is written into them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.errors import UserError

SEVERAL = Path("sweeps.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders, and where the page of several goes."""
    parser.add_argument("folders", type=Path, metavar="FOLDER", nargs="+")
    parser.add_argument("--out", type=Path, metavar="PAGE", help=f"of several folders (default {SEVERAL})")


def run(args: argparse.Namespace) -> int:
    """Write the report and print the paths of its files."""
    if len(args.folders) > 1:
        _write_several(args.folders, args.out or SEVERAL)
        return 0
    if args.out is not None:
        raise UserError(f"--out={args.out} is for several folders: the report of one is written into it")
    print(*_write(args.folders[0]), sep="\n")
    return 0


def _write_several(roots: Sequence[Path], path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--out={path} cannot be written: valid is the path of a file in a folder that exists")
    from rwkv_sweep.utils.console import quiet_dependencies

    quiet_dependencies()
    from rwkv_sweep.report.several_sweeps import read_sweeps, write_sweeps_page
    from rwkv_sweep.report.summary import print_summary

    sweeps = read_sweeps(roots)
    try:
        page = write_sweeps_page(path, sweeps)
    except OSError as error:
        raise UserError(f"--out={path} cannot be written: {error.strerror}") from error
    print_summary(sweeps.findings.records.results, sweeps.record, path.parent, sweeps.findings.answer)
    print(f"page     {page}")


def _write(root: Path) -> list[Path]:
    # Imported here, so that --help and bad folders are quick.
    from rwkv_sweep.records.sweep_record import SweepRecord
    from rwkv_sweep.report import write_report
    from rwkv_sweep.utils.console import quiet_dependencies

    record = SweepRecord.load(root)
    quiet_dependencies()
    from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
    from rwkv_sweep.report.answers import find
    from rwkv_sweep.report.charts.overview import write_overview
    from rwkv_sweep.report.summary import write_summary
    from rwkv_sweep.report.sweep_page import write_page
    from rwkv_sweep.report.tables import write_summary_table

    results = sweep_results(root)
    for result in results:
        if result.is_damaged and result.error is not None:
            print(f"counted as failed: {result.error['message']}", file=sys.stderr)
    findings = find(record, results, result_folders(root))
    written = [write_page(root, findings), write_summary(results, root), write_summary_table(findings, record, root)]
    if record.report is not None:
        written += write_report(record.report, results, root)
    return written + write_overview(findings, root / "report")
