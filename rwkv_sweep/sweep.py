"""What happens around the jobs of a sweep: checks before, baselines once, the parent run, the summary after.

A single run (without -m) goes the same way, as a sweep of one job without a parent run.
"""

from __future__ import annotations

import functools
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rwkv_sweep.config import RunConfig
from rwkv_sweep.config_errors import is_bad_input, one_line
from rwkv_sweep.jobs import compose_jobs, load_seldom, swept_keys
from rwkv_sweep.terminal import quiet_dependencies
from rwkv_sweep.validation import run_config

if TYPE_CHECKING:
    from rwkv_sweep.results import Result

SWEEP_FILE = "sweep.json"
BAD_INPUT, SOME_FAILED = 2, 1

_current: Path | None = None
"""Folder of the sweep this process is running, for `abandon_sweep`."""


@dataclass(frozen=True)
class SweepRecord:
    """What the jobs of a sweep must know of it; lies as sweep.json in the sweep's folder.

    parent: MLflow id of the parent run, None for a single run or without tracking.
    swept: keys that take several values. poolings: all that the jobs take. report: what the end of the sweep answers.
    started: seconds since the epoch.
    """

    name: str
    parent: str | None
    swept: list[str]
    poolings: list[str]
    report: str | None
    tracking: dict[str, Any]
    started: float = 0.0

    @classmethod
    def load(cls, root: Path) -> SweepRecord:
        return cls(**json.loads((root / SWEEP_FILE).read_text(encoding="utf-8")))


def _not_swallowed(method: Callable[..., None]) -> Callable[..., None]:
    """Hydra turns a callback's exceptions into warnings and goes on, but lets SystemExit through."""

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:
            if is_bad_input(error):
                print(f"error: {one_line(error)}", file=sys.stderr)
                raise SystemExit(BAD_INPUT) from error
            traceback.print_exc()
            raise SystemExit(SOME_FAILED) from error

    return wrapped


class SweepCallback(Callback):
    """Hydra calls this around each run and multirun."""

    @_not_swallowed
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        name = " ".join(config.hydra.overrides.task) or "defaults"
        _start(config, Path(config.hydra.run.dir), [config], [], name, multirun=False)

    @_not_swallowed
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        name = " ".join(config.hydra.overrides.task) or "defaults"
        swept = swept_keys(config)
        load_seldom(config)
        jobs = compose_jobs(config)
        _start(config, Path(config.hydra.sweep.dir), jobs, swept, name, multirun=True)

    @_not_swallowed
    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        _end(Path(config.hydra.runtime.output_dir))

    @_not_swallowed
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        _end(Path(config.hydra.sweep.dir))


def abandon_sweep() -> None:
    """Close the parent run of an interrupted sweep as KILLED; what finished stays."""
    if _current is not None and (_current / SWEEP_FILE).exists():
        _close(SweepRecord.load(_current), "KILLED", [])


def sweep_results(root: Path) -> list[Result]:
    """Records of all jobs and baselines found in a sweep's (or a single run's) folder, jobs in their order."""
    from rwkv_sweep.results import RESULT_FILE, Result

    folders = [path.parent for pattern in ("", "*/", "baselines/*/") for path in root.glob(pattern + RESULT_FILE)]

    def place(folder: Path) -> tuple[bool, int, str]:
        number = int(folder.name) if folder.name.isdigit() else 0
        return (folder.parent.name == "baselines", number, folder.name)

    return [Result.load(folder) for folder in sorted(set(folders), key=place)]


def _start(config: DictConfig, root: Path, jobs: list[DictConfig], swept: list[str], name: str, multirun: bool) -> None:
    global _current
    quiet_dependencies()
    started = time.time()
    # Imported here: composing a config must not load torch.
    from rwkv_sweep.preflight import check_runs

    runs = [run_config(job) for job in jobs]
    prepared = check_runs(runs)
    root.mkdir(parents=True, exist_ok=True)
    record = replace(_open(name, runs or [run_config(config)], swept, multirun), started=started)
    _write(record, root)
    _current = root
    for each in prepared:
        each.run_baselines(root, record.parent)


def _open(name: str, runs: list[RunConfig], swept: list[str], multirun: bool) -> SweepRecord:
    parent, tracking = None, runs[0].tracking
    if tracking.enabled:
        from rwkv_sweep.tracking import Tracker

        tracker = Tracker(tracking)
        if multirun:
            parent = tracker.start_run(name, {"rwkv_sweep.kind": "sweep", "rwkv_sweep.command": " ".join(sys.argv)})
    poolings = list(dict.fromkeys(run.pooling.name for run in runs))
    return SweepRecord(name, parent, swept, poolings, runs[0].report, asdict(tracking))


def _write(record: SweepRecord, root: Path) -> None:
    from rwkv_sweep.results import write_atomically

    write_atomically(root / SWEEP_FILE, json.dumps(asdict(record), indent=2) + "\n")


def _end(root: Path) -> None:
    from rwkv_sweep.results import FAILED, FINISHED, UNSUPPORTED
    from rwkv_sweep.summary import print_summary, write_summary

    record = SweepRecord.load(root)
    results = sweep_results(root)
    # What this machine cannot run is a result; a command that asks for nothing else was refused before it began.
    failed = any(result.status not in (FINISHED, UNSUPPORTED) for result in results)
    artifacts = [write_summary(results, root)]
    if record.report is not None:
        from rwkv_sweep.report import write_report

        artifacts += write_report(record.report, results, root)
    _close(record, FAILED if failed else FINISHED, artifacts)
    print_summary(results, record, root)
    if failed:
        raise SystemExit(SOME_FAILED)


def _close(record: SweepRecord, status: str, artifacts: list[Path]) -> None:
    if record.parent is not None:
        from rwkv_sweep.config import TrackingConfig
        from rwkv_sweep.tracking import Tracker

        Tracker(TrackingConfig(**record.tracking)).end_run(record.parent, status, artifacts)
