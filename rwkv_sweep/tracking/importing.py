"""Records on disk brought into MLflow. The folder is the truth: what MLflow has not, or has in part, is written there
from it; what it has already stays as it is. A second import changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock, Timeout

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.own_files import LOCK_FILE
from rwkv_sweep.records.results import (
    FAILED,
    FINDINGS,
    FINISHED,
    KILLED,
    PAGE_FILE,
    RESULT_FILE,
    SUMMARY_FILE,
    SUMMARY_TABLE,
    Result,
)
from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SWEEP_FILE, SweepRecord
from rwkv_sweep.tracking.client import FOLDER, KIND, PARENT, RECORD, Run, Tracker, error_line, is_refusal, mlflow_status
from rwkv_sweep.utils.console import log_line

NEW, COMPLETED, PRESENT = "new", "completed", "present"
SWEEP = "sweep"


@dataclass(frozen=True)
class Imported:
    """What an import of a sweep's folder did. new, completed, present: numbers of runs. damaged: records left out."""

    new: int = 0
    completed: int = 0
    present: int = 0
    damaged: int = 0

    def plus(self, what: str) -> Imported:
        """One more of a kind."""
        return replace(self, **{what: getattr(self, what) + 1})

    def __add__(self, other: Imported) -> Imported:
        return Imported(*(a + b for a, b in zip(self._counts(), other._counts(), strict=True)))

    def _counts(self) -> tuple[int, int, int, int]:
        return (self.new, self.completed, self.present, self.damaged)


def import_folder(tracker: Tracker, root: Path) -> Imported:
    """Import every record of a sweep (or single run) under its parent run.

    Raises:
        UserError: `root` is not the folder of a sweep.
    """
    record = SweepRecord.load(root)
    parent = parent_run(tracker, record, root)
    known = {run.data.tags.get(RECORD, ""): run for run in tracker.find(parent=parent)} if parent else {}
    done = Imported()
    for folder in result_folders(root):
        try:
            result = Result.load(folder)
            done = done.plus(import_record(tracker, result, folder, parent, known.get(result.id)))
        except Exception as error:
            if not is_refusal(error):
                raise
            place = "" if str(folder) in str(error) else f"{folder}: "
            log_line(f"left out: {place}{error_line(error)}", error=True)
            done = done.plus("damaged")
    return done


def import_record(tracker: Tracker, result: Result, folder: Path, parent: str | None, known: Run | None = None) -> str:
    """Make sure that MLflow has this record once and whole; returns what that took. known: its run, where at hand."""
    if known is None:
        known = next(iter(tracker.find(record=result.id)), None)
    if known is None:
        tracker.log_result(result, folder, parent)
        return NEW
    run_id = str(known.info.run_id)
    if parent is not None and PARENT not in known.data.tags:
        tracker.tag_run(run_id, {PARENT: parent})
    if known.info.status == mlflow_status(result.status):
        return PRESENT
    tracker.fill_run(run_id, result, folder)
    return COMPLETED


def parent_run(tracker: Tracker, record: SweepRecord, root: Path) -> str | None:
    """MLflow's id of a sweep's parent run, made where the server has none; None for a single run."""
    if not record.multirun:
        return None
    for run in tracker.find(record=record.id):
        if run.data.tags.get(KIND) == SWEEP:
            return str(run.info.run_id)
    return tracker.start_run(record.name, {KIND: SWEEP}, None, record.started, record.id, root)


def open_parent(tracker: Tracker, record: SweepRecord, root: Path, command: str) -> str | None:
    """As `parent_run`, of a sweep that is about to run: a resumed one goes on under the parent it had."""
    if not record.multirun:
        return None
    if record.parent is not None and tracker.reopen_run(record.parent):
        return record.parent
    for run in tracker.find(record=record.id):
        if run.data.tags.get(KIND) == SWEEP and tracker.reopen_run(str(run.info.run_id)):
            return str(run.info.run_id)
    tags = {KIND: SWEEP, "rwkv_sweep.command": command}
    return tracker.start_run(record.name, tags, None, 0.0, record.id, root)


def close_imported(tracker: Tracker, root: Path) -> None:
    """Give the parent run of an imported sweep, which no process is at work on any more, its last state."""
    record = SweepRecord.load(root)
    parent = parent_run(tracker, record, root)
    if parent is None:
        return
    results = sweep_results(root)
    models = [result for result in results if result.kind == "model"]
    complete = record.jobs is not None and len(models) >= record.jobs
    well = all(result.status in FINDINGS for result in results)
    status = (FINISHED if well else FAILED) if complete else KILLED
    if tracker.status(parent) != status:
        there = [root / name for name in (SUMMARY_FILE, SUMMARY_TABLE, PAGE_FILE) if (root / name).exists()]
        end_parent(tracker, parent, status, root, there)


def end_parent(
    tracker: Tracker,
    parent: str,
    status: str,
    root: Path,
    artifacts: Iterable[Path],
    metrics: Mapping[str, float] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Close a sweep's run, with its table as the description. metrics, tags: of the run that was chosen."""
    if metrics:
        tracker.log_metrics(parent, dict(metrics))
        tracker.tag_run(parent, dict(tags))
    table = root / SUMMARY_TABLE
    tracker.end_run(parent, status, artifacts, table.read_text(encoding="utf-8") if table.exists() else "")


def close_abandoned_runs(tracker: Tracker, own: Path | None = None) -> int:
    """Close what dead processes of this machine left RUNNING, importing first what their folders show as finished.

    Args:
        own: the folder of the sweep that this process has claimed.

    Returns:
        How many runs that were.
    """
    left = tracker.left_over()
    for run in left:
        folder = Path(run.data.tags.get(FOLDER, ""))
        if run.data.tags.get(KIND) == SWEEP:
            _import_unless_written(tracker, folder, folder == own)
            tracker.close_run(str(run.info.run_id), KILLED)
        elif not _finish(tracker, run, folder):
            tracker.close_run(str(run.info.run_id), KILLED)
    return len(left)


def _import_unless_written(tracker: Tracker, root: Path, is_own: bool) -> None:
    """Import a dead sweep's folder, if it is still there and no other process has gone on with it since."""
    if not root.is_absolute() or not (root / SWEEP_FILE).exists():
        return
    with contextlib.suppress(Timeout, UserError):
        lock = contextlib.nullcontext() if is_own else FileLock(root / LOCK_FILE, timeout=0)
        with lock:
            import_folder(tracker, root)


def _finish(tracker: Tracker, run: Run, folder: Path) -> bool:
    """Fill a run from the record it was made of; False where that is gone."""
    if not folder.is_absolute() or not (folder / RESULT_FILE).exists():
        return False
    try:
        result = Result.load(folder)
    except UserError:
        return False
    if result.id != run.data.tags.get(RECORD):
        return False
    tracker.fill_run(str(run.info.run_id), result, folder)
    return True
