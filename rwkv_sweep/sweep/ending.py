"""What happens after the last job of a sweep: summary, report, page, the parent run closed, the folder let go."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rwkv_sweep.config.error_messages import one_line
from rwkv_sweep.errors import SOME_FAILED, FolderGoneError
from rwkv_sweep.records.sweep_record import STOP_FILE, SWEEP_FILE, SweepRecord
from rwkv_sweep.sweep.current import CurrentSweep
from rwkv_sweep.utils.console import log_line


def finish(current: CurrentSweep, root: Path) -> None:
    """Write summary, report and page from the records, close the parent run, let go of the folder.

    Raises:
        FolderGoneError: the sweep's folder was removed meanwhile.
        SystemExit: a job failed or left no record.
    """
    from rwkv_sweep.records.results import FAILED, FINDINGS, FINISHED
    from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
    from rwkv_sweep.report.answers import find
    from rwkv_sweep.report.plain_sweep.selection import chosen_run
    from rwkv_sweep.report.summary import print_summary, write_summary
    from rwkv_sweep.report.tables import write_summary_table

    assert current.sweep is not None
    if not (root / SWEEP_FILE).exists():
        raise FolderGoneError(root)
    record = SweepRecord.load(root)
    results = sweep_results(root)
    missing = _missing(record, results)
    # What this machine cannot run is a result; a command that asks for nothing else was refused before it began.
    failed = bool(missing) or any(result.status not in FINDINGS for result in results)
    findings = find(record, results, result_folders(root))
    artifacts = [write_summary(results, root), write_summary_table(findings, record, root)]
    if record.report is not None:
        from rwkv_sweep.report import write_report

        artifacts += write_report(record.report, results, root)
    artifacts += _page(root, findings)
    sweep = replace(current.sweep, record=record)
    metrics, tags = findings.answer.measured()
    choice = chosen_run(findings.answer)
    if choice is not None:
        metrics, tags = metrics | choice.metrics(), tags | choice.tags()
    sweep.close(FAILED if failed else FINISHED, artifacts, metrics, tags)
    print_summary(results, replace(record, tracking=asdict(sweep.tracking)), root, findings.answer)
    if missing:
        stopped = " after a failure (on_error=stop)" if (root / STOP_FILE).exists() else ""
        log_line(
            f"{missing} of {record.jobs} jobs left no record{stopped}: the same command with resume=true runs them"
        )
    current.end()
    if failed:
        raise SystemExit(SOME_FAILED)


def _page(root: Path, findings: Any) -> list[Path]:
    """report.html; whatever hinders it must not keep the sweep from its end."""
    from rwkv_sweep.report.sweep_page import write_page

    try:
        return [write_page(root, findings)]
    except Exception as error:
        log_line(
            f"no report.html: {one_line(error)}; to try again: rwkv-sweep report {shlex.quote(str(root))}",
            error=True,
        )
        return []


def _missing(record: SweepRecord, results: list[Any]) -> int:
    """How many jobs left no record: a launcher may lose some."""
    return max(0, (record.jobs or 0) - sum(result.kind == "model" for result in results))
