"""The folder of a sweep: one process at a time writes it; what its jobs left is read, and made ready for a resume."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from rwkv_sweep.errors import UserError
from rwkv_sweep.results import BASELINE, DAMAGED, FAILED, FINISHED, MODEL, RESULT_FILE, Result
from rwkv_sweep.sweep_record import STOP_FILE, SWEEP_FILE

LOCK_FILE = ".lock"
EARLIER = "earlier"
"""Within a resumed sweep's folder: what earlier attempts recorded under another job's number, or did not finish."""

_claims: dict[Path, FileLock] = {}
"""Locks this process holds, by folder; the system lets go of them when it dies, however it does."""


def claim(root: Path, resume: bool, key: str) -> None:
    """Make `root` this process's own until `release`.

    Args:
        resume: whether a sweep that lies there may be gone on with.
        key: the setting that names the folder, for messages.

    Raises:
        UserError: another process is at work there, or a sweep lies there that is not to be resumed.
    """
    if not resume and (root / SWEEP_FILE).exists():
        raise UserError(f"{key}={root} holds a sweep already: valid is resume=true to go on with it, or another folder")
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{key}={root} is being written by another process: wait for it, or take another") from error
    _claims[root] = lock


def is_claimed(root: Path) -> bool:
    """Whether this process holds the folder."""
    return root in _claims


def release(root: Path) -> None:
    """Let others have the folder."""
    if (lock := _claims.pop(root, None)) is not None:
        lock.release()


def sweep_results(root: Path) -> list[Result]:
    """Records of all jobs and baselines found in a sweep's (or a single run's) folder, jobs in their order.

    A damaged record counts as a failed run, and says so.
    """
    return [_read(folder) for folder in result_folders(root)]


def result_folders(root: Path) -> list[Path]:
    """Folders of all records of a sweep: jobs by number, then baselines."""
    folders = {path.parent for pattern in ("", "*/", "baselines/*/") for path in root.glob(pattern + RESULT_FILE)}

    def place(folder: Path) -> tuple[bool, int, str]:
        number = int(folder.name) if folder.name.isdecimal() else 0
        return (folder.parent.name == "baselines", number, folder.name)

    return sorted(folders, key=place)


def prepare_resume(root: Path, keys: Mapping[int, str]) -> None:
    """Leave in place what is finished and still asked for; everything else makes room.

    A finished run of another key (the jobs were renumbered, the code changed) and a failed one move to `earlier/`, from
    where `resume` takes back what is asked for under another number. A folder without a record is half a run and goes.

    Args:
        keys: of the jobs to come, by number; empty where the sweeper chooses them as it goes.
    """
    (root / STOP_FILE).unlink(missing_ok=True)
    if (root / RESULT_FILE).exists() and not _stays(result := _read(root), keys.get(0)):
        target = _room(root, f"run-{result.id or 'damaged'}")
        for path in [path for path in root.iterdir() if path.suffix in (".json", ".csv") and path.name != SWEEP_FILE]:
            path.rename(target / path.name)
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name.isdigit()):
        if not (folder / RESULT_FILE).exists():
            shutil.rmtree(folder)
        elif not _stays(result := _read(folder), keys.get(int(folder.name))):
            folder.replace(_room(root, f"{folder.name}-{result.id or 'damaged'}"))


def _stays(result: Result, key: str | None) -> bool:
    return result.status == FINISHED and result.key == key


def _room(root: Path, name: str) -> Path:
    """An empty folder under `earlier/`; what was moved there before, and taken back since, goes."""
    target = root / EARLIER / name
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    return target


def _read(folder: Path) -> Result:
    try:
        return Result.load(folder)
    except (UserError, OSError) as error:
        reason = {"kind": DAMAGED, "message": str(error)}
        kind = BASELINE if folder.parent.name == "baselines" else MODEL
        return Result(folder.name, kind, FAILED, {}, error=reason)
