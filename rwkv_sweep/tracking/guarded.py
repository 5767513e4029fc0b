"""Tracking that may fail: a run is never lost with it, and the user hears of it once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rwkv_sweep.config import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.redaction import redact
from rwkv_sweep.results import Result
from rwkv_sweep.terminal import say
from rwkv_sweep.tracking.client import Tracker
from rwkv_sweep.tracking.importing import bring_in

T = TypeVar("T")

_trackers: dict[tuple[str, str, str], Tracker] = {}
_down: set[str] = set()
"""Servers that failed this process: later runs do not wait for them again, the sweep's end tries once more."""


def tracked(config: TrackingConfig, work: Callable[[Tracker], T], retry: bool = False) -> T | None:
    """`work` with the server, or None where the server fails, which is said the first time. retry: try one that did."""
    if config.uri in _down and not retry:
        return None
    place = (config.uri, config.artifacts, config.experiment)
    try:
        if place not in _trackers:
            _trackers[place] = Tracker(config)
        found = work(_trackers[place])
    except Exception as error:  # whatever MLflow, its database or its network come up with
        if config.uri not in _down:
            say(f"tracking at {config.uri} failed ({_reason(error)}): runs are kept on disk")
        _down.add(config.uri)
        _trackers.pop(place, None)
        return None
    _down.discard(config.uri)
    return found


def track_result(config: TrackingConfig, result: Result, folder: Path, parent: str | None, again: bool = False) -> None:
    """Log a run, if the server lets us. again: it may have been logged before, in part or as a whole."""
    if again:
        tracked(config, lambda tracker: bring_in(tracker, result, folder, parent))
    else:
        tracked(config, lambda tracker: tracker.log_result(result, folder, parent))


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return redact(str(error))
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__
