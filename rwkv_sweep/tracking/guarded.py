"""Tracking that may fail: a run is never lost with it, and the user hears of it once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.records.results import Result
from rwkv_sweep.tracking.client import Tracker, error_line, is_refusal
from rwkv_sweep.tracking.importing import import_record
from rwkv_sweep.utils.console import log_line

T = TypeVar("T")

_trackers: dict[tuple[str, str, str], Tracker] = {}
_down: set[str] = set()
"""Servers that failed this process: later runs do not wait for them again, the sweep's end tries once more."""


def tracked(config: TrackingConfig, work: Callable[[Tracker], T], retry: bool = False) -> T | None:
    """`work` with the server, or None where the server fails, which is reported the first time. retry: try one that
    did."""
    if config.uri in _down and not retry:
        return None
    place = (config.uri, config.artifacts, config.experiment)
    try:
        if place not in _trackers:
            _trackers[place] = Tracker(config)
        answer = work(_trackers[place])
    except Exception as error:  # whatever MLflow, its database or its network come up with
        if config.uri not in _down:
            log_line(f"tracking at {config.uri} failed ({error_line(error)}): runs are kept on disk")
        _down.add(config.uri)
        _trackers.pop(place, None)
        return None
    _down.discard(config.uri)
    return answer


def track_result(config: TrackingConfig, result: Result, folder: Path, parent: str | None, again: bool = False) -> None:
    """Log a run, if the server lets us. again: it may have been logged before, in part or as a whole."""

    def log_it(tracker: Tracker) -> None:
        try:
            if again:
                import_record(tracker, result, folder, parent)
            else:
                tracker.log_result(result, folder, parent)
        except Exception as error:
            if not is_refusal(error):
                raise
            log_line(f"{result.name} is not tracked ({error_line(error)}): its record is in {folder}", error=True)

    tracked(config, log_it)
