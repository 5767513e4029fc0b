"""A job while it is carried out: where it belongs, what it may use, and what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.records.results import Result
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.sweep.runs.process import Process
from rwkv_sweep.utils.stage_timer import Stopwatch


@dataclass(frozen=True)
class Place:
    """Where a job belongs.

    Attributes:
        folder: the job's own.
        root: the sweep's; the same for a single run.
        name: the run's.
        record: the sweep.
        number: the job's.
    """

    folder: Path
    root: Path
    name: str
    record: SweepRecord
    number: int = 0


@dataclass
class Measured:
    """What is known of a run so far."""

    params: dict[str, object] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, metrics: dict[str, float], tags: dict[str, str]) -> None:
        self.metrics |= metrics
        self.tags |= tags


@dataclass(frozen=True)
class Job:
    """A run while it is measured.

    Attributes:
        run: its config.
        planned: its record before anything is measured.
        place: where it belongs.
        clock: counts the time of each stage.
        process: what this process keeps from job to job.
    """

    run: RunConfig
    planned: Result
    place: Place
    clock: Stopwatch
    process: Process

    @property
    def poolings(self) -> list[str]:
        """The run's, and those that the sweep will want of the same forward passes."""
        searched = self.run.search.poolings if self.run.search.enabled else []
        return list(dict.fromkeys([self.run.pooling.spec, *self.place.record.poolings, *searched]))
