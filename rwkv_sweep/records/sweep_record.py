"""What the jobs of a sweep must know of it, stored as sweep.json in the sweep's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records import record_checks as checks
from rwkv_sweep.records.own_files import STOP_FILE as STOP_FILE
from rwkv_sweep.records.own_files import SWEEP_FILE as SWEEP_FILE
from rwkv_sweep.records.record_checks import read_record
from rwkv_sweep.utils.redaction import redact_all

_FIELDS: dict[str, checks.Check] = {
    "name": checks.text,
    "parent": checks.optional(checks.identifier),
    "swept": checks.list_of(checks.text),
    "poolings": checks.list_of(checks.text),
    "report": checks.optional(checks.text),
    "tracking": checks.dict_of(checks.scalar),
    "started": checks.time,
    "id": checks.identifier,
    "multirun": checks.flag,
    "jobs": checks.optional(checks.count),
    "cwd": checks.text,
    "folders": checks.optional(checks.list_of(checks.text)),
    "select": checks.dict_of(checks.scalar),
}
_REQUIRED = ("name", "parent", "swept", "poolings", "report", "tracking")


@dataclass(frozen=True)
class SweepRecord:
    """A sweep, or a single run as a sweep of one job.

    parent: MLflow id of the parent run, None for a single run or without tracking.
    swept: keys that take several values. poolings: all that the jobs take. report: what the end of the sweep answers.
    tracking: where runs are tracked, absolute and without secrets. started: seconds since the epoch.
    id: stands for the sweep wherever it is imported. multirun: whether it has a parent run at all.
    jobs: how many there are to be, None where the sweeper chooses them as it goes. cwd: what relative paths start from.
    folders: of the jobs by number, relative to the sweep's; None where they are not known beforehand.
    select: by what a run is chosen, and within which limits.
    """

    name: str
    parent: str | None
    swept: list[str]
    poolings: list[str]
    report: str | None
    tracking: dict[str, Any]
    started: float = 0.0
    id: str = ""
    multirun: bool = False
    jobs: int | None = None
    cwd: str = ""
    folders: list[str] | None = None
    select: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, root: Path) -> SweepRecord:
        """Read `sweep.json` of a folder.

        Raises:
            UserError: it is absent or damaged.
        """
        try:
            return cls(**read_record(root / SWEEP_FILE, _FIELDS, _REQUIRED))
        except FileNotFoundError as error:
            raise UserError(f"{root} is not the folder of a sweep: it holds no {SWEEP_FILE}") from error

    def tracking_config(self) -> TrackingConfig:
        """Where its runs are tracked; keys of a newer version are left out.

        Raises:
            UserError: a key is missing, or of another type.
        """
        checks_of = {"enabled": checks.flag, "uri": checks.text, "artifacts": checks.text, "experiment": checks.text}
        for key, check in checks_of.items():
            if key not in self.tracking:
                raise UserError(f"{SWEEP_FILE} does not say tracking.{key}")
            if wrong := check(self.tracking[key]):
                raise UserError(f"{SWEEP_FILE} is damaged: tracking.{key} {wrong}")
        return TrackingConfig(**{key: self.tracking[key] for key in checks_of})

    def save(self, root: Path) -> None:
        """Write `sweep.json`, whole or not at all."""
        from rwkv_sweep.utils.files import write_atomically

        write_atomically(root / SWEEP_FILE, json.dumps(redact_all(asdict(self)), indent=2) + "\n")
