"""The folder of a sweep: one process at a time writes it; what its jobs left is read, and made ready for a resume."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.job_folders import is_reached_by_link, note_files, recorded_folders
from rwkv_sweep.records.own_files import BASELINES, EARLIER, LOCK_FILE, LOG_FILE, remove_empty, remove_run, run_files
from rwkv_sweep.records.results import BASELINE, DAMAGED, FAILED, FINISHED, MODEL, RESULT_FILE, Result
from rwkv_sweep.records.sweep_record import STOP_FILE, SWEEP_FILE, SweepRecord


def claim(root: Path, resume: bool, key: str) -> FileLock:
    """Make `root` this process's own until the lock is released; the system does it for a process that dies.

    Args:
        resume: whether a sweep that is there may be continued.
        key: the setting that names the folder, for messages.

    Raises:
        UserError: another process is at work there, or a sweep is there that is not to be resumed, or the folder
            cannot be written.
    """
    require_no_sweep(root, resume, key)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK_FILE)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{key}={root} is being written by another process: wait for it, or take another") from error
    except OSError as error:
        raise UserError(f"{key}={root} cannot be written: {error.strerror}") from error
    try:
        require_no_sweep(root, resume, key)  # another process may have run one since
    except UserError:
        lock.release()
        raise
    return lock


def require_no_sweep(root: Path, resume: bool, key: str) -> None:
    """Raises UserError where a sweep is in the folder that is not to be resumed."""
    if not resume and (root / SWEEP_FILE).exists():
        raise UserError(f"{key}={root} holds a sweep already: valid is resume=true to go on with it, or another folder")


def previous_sweep(root: Path) -> SweepRecord | None:
    """The record of the sweep (or single run) that is in a folder; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    return SweepRecord.load(root) if (root / SWEEP_FILE).exists() else None


def sweep_results(root: Path) -> list[Result]:
    """Records of all jobs and baselines found in a sweep's (or a single run's) folder, jobs in their order.

    A damaged record counts as a failed run, with that as the reason.
    """
    return [_read(folder) for folder in result_folders(root)]


def result_folders(root: Path) -> list[Path]:
    """Folders of all records of a sweep: jobs by number, then baselines."""
    baselines = sorted(path.parent for path in root.glob(f"{BASELINES}/*/{RESULT_FILE}"))
    jobs = _job_folders(root)
    return [*(folder for folder in jobs if (folder / RESULT_FILE).exists()), *baselines]


def _job_folders(root: Path) -> list[Path]:
    try:
        record = previous_sweep(root)
    except UserError:
        record = None
    if record is not None and (record.folders is not None or note_files(root)):
        return list(recorded_folders(root, record).values())
    # Of a version that recorded no folders, or without a readable sweep.json: what is there.
    present = {path.parent for pattern in ("", "*/") for path in root.glob(pattern + RESULT_FILE)}
    return sorted(present, key=lambda path: (int(path.name) if path.name.isdecimal() else 0, path.name))


def prepare_resume(root: Path, before: SweepRecord, folders: Sequence[Path] | None, keys: Mapping[int, str]) -> None:
    """Leave in place what is finished and still asked for; set aside or remove what else the sweep has written.

    A finished run of another key (the jobs were renumbered, the code changed) and a failed one move to `earlier/`, from
    where `resume` takes back what is asked for under another number. Half a run, which has no record, is removed. All
    other files, wherever they are, are left alone.

    Args:
        before: the sweep that is there; only folders that it has recorded are looked into.
        folders: of the jobs to come, by number; None where they are not known.
        keys: of the jobs to come, by number; empty where the sweeper chooses them as it goes.
    """
    (root / STOP_FILE).unlink(missing_ok=True)
    key_by_folder = {folder: keys.get(number) for number, folder in enumerate(folders or [])}
    for number, folder in recorded_folders(root, before).items():
        if is_reached_by_link(folder, root):
            continue
        if not (folder / RESULT_FILE).exists():
            remove_run(folder)
        elif not _stays(result := _read(folder), key_by_folder.get(folder)):
            _set_aside(root, folder, f"{'run' if folder == root else number}-{_safe(result.id)}")
    for note in note_files(root):
        note.unlink(missing_ok=True)


def _stays(result: Result, key: str | None) -> bool:
    return result.status == FINISHED and result.key == key


def _set_aside(root: Path, folder: Path, name: str) -> None:
    """Move a run's files to `earlier/`, the record last: a process killed in between finds the rest again."""
    target = root / EARLIER / name
    if is_reached_by_link(target, root):
        raise UserError(f"{target} is reached by a symbolic link: remove the link, or take another folder")
    for path in run_files(folder):
        if folder == root and path.name == LOG_FILE:
            continue  # one log of all attempts; it may have been there before
        moved = target / path.relative_to(folder)
        moved.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, moved)
    if folder != root:
        remove_empty(folder)


def _safe(identity: str) -> str:
    """A record's id as part of a file's name."""
    return identity if re.fullmatch(r"[\w-]+", identity, re.ASCII) else "damaged"


def _read(folder: Path) -> Result:
    try:
        return Result.load(folder)
    except (UserError, OSError) as error:
        reason = {"kind": DAMAGED, "message": str(error)}
        kind = BASELINE if folder.parent.name == BASELINES else MODEL
        return Result(folder.name, kind, FAILED, {}, error=reason)
