"""Write the report of a sweep again, from its records: report.html, summary.csv, summary.md, and figures in report/.

    rwkv-sweep report FOLDER

FOLDER is that of a sweep or of a single run, as the end of either names it. Runs that finished after the last report,
or that an interruption left without one, are in the new one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder of the sweep."""
    parser.add_argument("folder", type=Path, metavar="FOLDER")


def run(args: argparse.Namespace) -> int:
    """Write the report and print the paths of its files."""
    print(*_write(args.folder), sep="\n")
    return 0


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
