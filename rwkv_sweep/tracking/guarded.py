"""Tracking that may fail: a run is never lost with it, and the user hears of it once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.records.results import Result
from rwkv_sweep.utils.console import log_line

if TYPE_CHECKING:
    from rwkv_sweep.tracking.client import Tracker

T = TypeVar("T")


class Servers:
    """The tracking servers that a process uses: a connection to each, and which of them have failed.

    Runs do not wait again for a server that has failed; the end of a sweep tries once more. MLflow is loaded by the
    first use.
    """

    def __init__(self) -> None:
        self._trackers: dict[tuple[str, str, str], Tracker] = {}
        self._failed_uris: set[str] = set()

    def tracked(self, config: TrackingConfig, work: Callable[[Tracker], T], retry: bool = False) -> T | None:
        """`work` with the server, or None where the server fails, which is reported the first time.

        Args:
            retry: whether to try a server that has failed.
        """
        from rwkv_sweep.tracking.client import Tracker, error_line

        if config.uri in self._failed_uris and not retry:
            return None
        experiment = (config.uri, config.artifacts, config.experiment)
        try:
            if experiment not in self._trackers:
                self._trackers[experiment] = Tracker(config)
            answer = work(self._trackers[experiment])
        except Exception as error:  # whatever MLflow, its database or its network come up with
            if config.uri not in self._failed_uris:
                log_line(f"tracking at {config.uri} failed ({error_line(error)}): runs are kept on disk")
            self._failed_uris.add(config.uri)
            self._trackers.pop(experiment, None)
            return None
        self._failed_uris.discard(config.uri)
        return answer

    def track_result(
        self, config: TrackingConfig, result: Result, folder: Path, parent: str | None, again: bool = False
    ) -> None:
        """Log a run, if tracking is enabled and the server lets us.

        Args:
            parent: the sweep's run.
            again: whether it may have been logged before, in part or as a whole.
        """
        if not config.enabled:
            return
        from rwkv_sweep.tracking.client import error_line, is_refusal
        from rwkv_sweep.tracking.importing import import_record

        def log_run(tracker: Tracker) -> None:
            try:
                if again:
                    import_record(tracker, result, folder, parent)
                else:
                    tracker.log_result(result, folder, parent)
            except Exception as error:
                if not is_refusal(error):
                    raise
                log_line(f"{result.name} is not tracked ({error_line(error)}): its record is in {folder}", error=True)

        self.tracked(config, log_run)
