"""The sweep that this process is running: what its end, an interrupt and the command line must know of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rwkv_sweep.config.error_messages import is_bad_input, one_line
from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import FolderGoneError, system_error
from rwkv_sweep.records.results import KILLED
from rwkv_sweep.records.sweep_record import SWEEP_FILE, SweepRecord
from rwkv_sweep.utils.console import log_line

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from rwkv_sweep.tracking import Servers

RESUMABLE = "; what had finished is kept, and the same command with resume=true runs the rest"


@dataclass(frozen=True)
class RunningSweep:
    """A sweep that has begun.

    Attributes:
        root: its folder.
        tracking: as given, with what the record on disk leaves out.
        record: as on disk, from where it may be gone.
        servers: that this process uses.
        lock: of the folder, released at the sweep's end.
    """

    root: Path
    tracking: TrackingConfig
    record: SweepRecord
    servers: Servers
    lock: BaseFileLock

    def close(
        self,
        status: str,
        artifacts: list[Path],
        metrics: dict[str, float] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Import what the server did not take when it happened, then give the parent run its last state.

        metrics, tags: of the parent run.
        """
        if not self.tracking.enabled:
            return
        from rwkv_sweep.tracking import Tracker, end_parent, hurry, import_folder, parent_run

        is_there = (self.root / SWEEP_FILE).exists()
        if status == KILLED:
            hurry()

        def close(tracker: Tracker) -> bool:
            if is_there:
                import_folder(tracker, self.root)
            parent = self.record.parent
            if parent is None and is_there:
                parent = parent_run(tracker, self.record, self.root)
            if parent is not None:
                end_parent(tracker, parent, status, self.root, artifacts, metrics or {}, tags or {})
            return True

        if self.servers.tracked(self.tracking, close, retry=True) is None and is_there:
            log_line(f"to track them later: rwkv-sweep import {shlex.quote(str(self.root))}")


class CurrentSweep:
    """The sweep that this process has begun and not ended, if there is one."""

    def __init__(self) -> None:
        self.sweep: RunningSweep | None = None

    @property
    def is_running(self) -> bool:
        return self.sweep is not None

    def begin(self, sweep: RunningSweep) -> None:
        """From here on an error or an interrupt closes this sweep; called again when its record changes."""
        self.sweep = sweep

    def end(self) -> None:
        """Let others have the folder; nothing is left to close."""
        if self.sweep is not None:
            self.sweep.lock.release()
        self.sweep = None

    def abandon(self, status: str = KILLED) -> None:
        """Close the parent run of a sweep that was interrupted, or whose launcher failed; what finished stays."""
        if self.sweep is not None:
            self.sweep.close(status, [])

    def outcome(self, error: BaseException) -> str | None:
        """One line for an error that somebody can act on (bad input, a full disk, a folder that is gone); None for a
        flaw of the program."""
        root = None if self.sweep is None else self.sweep.root
        if root is not None and not (root / SWEEP_FILE).exists():
            return str(FolderGoneError(root))
        if isinstance(error, Exception) and is_bad_input(error):
            return one_line(error)
        refused = system_error(error, root)
        return refused if refused is None or root is None else refused + RESUMABLE


CURRENT = CurrentSweep()
"""Of this process. Hydra makes the callback, which begins and ends a sweep, and calls the command line's function for
each job: neither can hand it to the other. Jobs, which may run elsewhere, read the record on disk."""
