"""Where the time of a run goes, stage by stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

STAGES = ("load", "forward", "scoring", "timing", "tracking")
"""Reading data and weights; vectors for quality; their metrics; the speed pass; the record and MLflow."""


@dataclass
class Stopwatch:
    """Wall time in seconds by stage. A stage within a stage is taken off the outer one, so that they add up."""

    seconds: dict[str, float] = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time within under `name`."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        """Book what has passed since the last switch to the innermost stage."""
        now = time.perf_counter()
        if self._running:
            name = self._running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def metrics(self) -> dict[str, float]:
        """`time/<stage>_s` of every stage that ran."""
        return {f"time/{name}_s": seconds for name, seconds in self.seconds.items()}
