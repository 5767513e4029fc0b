"""Finished runs reused in place of being run again: from the job's own folder, from what the sweep left earlier,
from MLflow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.own_files import EARLIER, RUN_FILES, present
from rwkv_sweep.records.results import REPEATABLE, RESULT_FILE, Result
from rwkv_sweep.tracking import Servers
from rwkv_sweep.utils.console import log_line


def recorded(folder: Path, key: str) -> Result | None:
    """The finished run with this key in `folder`, if there is one: a launcher that lost sight of a worker may
    start its job a second time."""
    result = _load(folder)
    return result if result is not None and _fits(result, key) else None


def reuse_finished(
    folder: Path, root: Path, key: str, name: str, tracking: TrackingConfig, servers: Servers
) -> Result | None:
    """Copy a finished run with this key into `folder` and return its record; None where there is none.

    Args:
        name: of the run within this sweep; the one it had may name other keys.
        root: the sweep's folder; it holds what earlier attempts left. MLflow is asked next, if tracking is enabled.
        servers: that this process uses.
    """
    for source in _left_earlier(root, key):
        return _copy(source, folder, name)
    if not tracking.enabled:
        return None
    from rwkv_sweep.tracking import Tracker

    def fetch(tracker: Tracker) -> Result | None:
        for run in tracker.finished(key):
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetched-") as fetched:
                run_id = str(run.info.run_id)
                try:
                    tracker.fetch(run_id, Path(fetched))
                except Exception as error:  # artifacts may be stored where this machine does not reach
                    log_line(f"the artifacts of run {run_id} cannot be had ({type(error).__name__}): it is run again")
                    continue
                result = _load(Path(fetched))
                if result is not None and _fits(result, key):
                    return _copy(Path(fetched), folder, name, run_id)
        return None

    return servers.tracked(tracking, fetch)


def _left_earlier(root: Path, key: str) -> Iterator[Path]:
    for path in sorted(root.glob(f"{EARLIER}/*/{RESULT_FILE}")):
        result = _load(path.parent)
        if result is not None and _fits(result, key):
            yield path.parent


def _copy(source: Path, folder: Path, name: str, run_id: str | None = None) -> Result:
    """All files of a run, its record last: until that is there, nothing is. Log and config are of this attempt."""
    for path in present(source, RUN_FILES):
        if path.name != RESULT_FILE:
            shutil.copyfile(path, folder / path.name)
    result = Result.load(source)
    tags = result.tags if run_id is None else {**result.tags, "taken_over_from": run_id}
    result = replace(result, name=name, tags=tags)
    result.save(folder)
    return result


def _fits(result: Result, key: str) -> bool:
    return result.status in REPEATABLE and result.key == key


def _load(folder: Path) -> Result | None:
    if not (folder / RESULT_FILE).exists():
        return None
    try:
        return Result.load(folder)
    except UserError:
        return None
