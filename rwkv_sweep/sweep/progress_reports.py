"""A sign of life while the jobs of a sweep run in other processes, whose output may go elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from rwkv_sweep.records.job_folders import recorded_folders
from rwkv_sweep.records.own_files import RESULT_FILE
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.utils.console import log_line

LOOK_S = 20.0
QUIET_AFTER_S, QUIET_S = 600.0, 300.0
"""After so long a line without news comes only so often: a cluster's queue may take a night."""


def runs_in_order(config: DictConfig) -> bool:
    """Whether Hydra's own launcher runs the jobs, one after another in this process, which report for themselves."""
    return str(config.hydra.launcher._target_).endswith(".BasicLauncher")


class ProgressReports:
    """A thread that logs how many jobs of a sweep have a result.

    Args:
        root: the sweep's folder.
        record: of the sweep.
        report: what takes a line.
        clock: seconds.
    """

    def __init__(
        self,
        root: Path,
        record: SweepRecord,
        report: Callable[[str], None] = log_line,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._record, self._report, self._clock = root, record, report, clock
        self._started = self._last = clock()
        self._ended = self._count()
        self._stop = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="progress", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            # The folder may be on a network's disk, or be gone: the sweep's end reports that.
            with contextlib.suppress(OSError):
                self.look()

    def look(self) -> None:
        """Report where there is news, or none has come for long."""
        ended, now = self._count(), self._clock()
        if ended == self._ended and now - self._started > QUIET_AFTER_S and now - self._last < QUIET_S:
            return
        self._ended, self._last = ended, now
        total = "" if self._record.jobs is None else f" of {self._record.jobs}"
        self._report(f"{ended}{total} runs have ended, after {now - self._started:.0f} s")

    def _count(self) -> int:
        folders = recorded_folders(self._root, self._record).values()
        return sum((folder / RESULT_FILE).exists() for folder in folders)
