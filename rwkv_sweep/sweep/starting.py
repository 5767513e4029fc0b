"""What happens before the first job of a sweep: checks, its folder claimed, parent run opened, baselines scored."""

from __future__ import annotations

import os
import sys
import time
import uuid
from dataclasses import asdict, replace
from pathlib import Path

from hydra.types import RunMode
from omegaconf import DictConfig

from rwkv_sweep.config.launchers import runs_here
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.sweep.current import CurrentSweep, RunningSweep
from rwkv_sweep.sweep.folder_checks import (
    RUN_KEY,
    SWEEP_KEY,
    Planned,
    check_jobs,
    check_places,
    check_root,
)
from rwkv_sweep.sweep.jobs import job_overrides, takes_planned_jobs
from rwkv_sweep.utils.console import log_line, quiet_dependencies
from rwkv_sweep.utils.processes import import_beside, resume_collection
from rwkv_sweep.utils.redaction import redact

SCORING = ("gensim.models", "scipy.stats")
"""Take two seconds to import, and are needed when the baselines are scored: beside the checks a core is free."""


def typed(config: DictConfig) -> str:
    """What was typed, without secrets: the name of the sweep."""
    return redact(" ".join(config.hydra.overrides.task)) or "defaults"


def start(
    current: CurrentSweep,
    config: DictConfig,
    root: Path,
    jobs: list[DictConfig],
    swept: list[str],
    name: str,
) -> list[int]:
    """Check, claim the folder, open the parent run, run the baselines.

    Args:
        current: begun with this sweep as soon as there is something to close.
        root: the sweep's folder.
        jobs: configs of all jobs.
        swept: keys that take several values.
        name: of the sweep, as `typed` gives it.

    Returns:
        Numbers of the jobs to run: those that repeat another are left out.

    Raises:
        UserError: whatever can be refused before the first job; nothing was written then.
    """
    quiet_dependencies()
    started = time.time()
    runs = [run_config(job) for job in jobs]
    from rwkv_sweep.records.job_folders import relative  # here, as composing a config must not load torch
    from rwkv_sweep.records.sweep_folder import claim, prepare_resume, previous_sweep
    from rwkv_sweep.sweep.preflight import check_runs
    from rwkv_sweep.sweep.runs.process import THIS_PROCESS
    from rwkv_sweep.sweep.runs.run_key import run_keys
    from rwkv_sweep.tracking import check_tracking, unused_variable
    from rwkv_sweep.tracking.uris import lasting

    import_beside(*SCORING)
    root, multirun = root.absolute(), config.hydra.mode == RunMode.MULTIRUN
    first = runs[0] if runs else run_config(config)
    check_places(root, multirun, [run.store for run in [*runs, first]])
    for tracking in {repr(run.tracking): run.tracking for run in [*runs, first]}.values():
        check_tracking(tracking)
    checked = check_runs(runs, runs_here(config))
    same_as = checked.same_as if takes_planned_jobs(config) else list(range(len(runs)))
    kept = [number for number, first_number in enumerate(same_as) if number == first_number]
    runs = [runs[number] for number in kept]
    names = _job_names(config, swept)
    kept_jobs, kept_names = [jobs[number] for number in kept], [names[number] for number in kept]
    folders = _checked_folders(config, root, kept_jobs, kept_names, first.resume)
    lock = claim(root, first.resume, SWEEP_KEY if multirun else RUN_KEY)
    before = previous_sweep(root)
    record = SweepRecord(
        name=name,
        parent=None,
        swept=swept,
        poolings=list(dict.fromkeys(run.pooling.spec for run in runs or [first])),
        report=first.report,
        tracking=lasting(first.tracking),
        started=started,
        multirun=multirun,
        jobs=len(runs) or None,
        cwd=str(Path.cwd()),
        select={key: value for key, value in asdict(first.select).items() if key != "split"},
        folders=None if folders is None else [relative(root, folder) for folder in folders],
    )
    record = _continued(record, before)
    if before is not None:
        # The kind of a cluster's device is known on its nodes alone, and so are the keys.
        prepare_resume(root, before, folders, run_keys(runs, THIS_PROCESS.fingerprints) if runs_here(config) else {})
    if ignored := unused_variable(first.tracking, config.hydra.overrides.task, os.environ):
        log_line(ignored)
    record = _begun(current, RunningSweep(root, first.tracking, record, THIS_PROCESS.servers, lock))
    _report_repeated(names, same_as)
    for prepared in checked.prepared:
        prepared.run_baselines(root, record.parent, THIS_PROCESS)
    resume_collection()
    return kept


def _job_names(config: DictConfig, swept: list[str]) -> list[str]:
    """What is swept, of each job; of a single run what was typed."""
    if not swept:
        return [typed(config)] * max(1, len(job_overrides(config)))
    return [
        ",".join(override for override in job if override.partition("=")[0].lstrip("+~") in swept)
        for job in job_overrides(config)
    ]


def _checked_folders(
    config: DictConfig, root: Path, jobs: list[DictConfig], names: list[str], resume: bool
) -> list[Path] | None:
    """The folders of the jobs, once it is sure that they differ and that nothing of others would be overwritten; None
    where they are not known beforehand.

    Raises:
        UserError: a folder that cannot be.
    """
    from rwkv_sweep.records.job_folders import composed_folders, recorded_folders
    from rwkv_sweep.records.sweep_folder import previous_sweep, require_no_sweep

    multirun = config.hydra.mode == RunMode.MULTIRUN
    require_no_sweep(root, resume, SWEEP_KEY if multirun else RUN_KEY)
    check_root(root, multirun, config)
    if not multirun:
        return [root]
    folders = composed_folders(jobs, root) if jobs else None
    if folders is not None:
        planned = [Planned(*parts) for parts in zip(names, folders, jobs, strict=True)]
        before = previous_sweep(root)
        check_jobs(root, planned, recorded_folders(root, before).values() if before else [])
    return folders


def _report_repeated(names: list[str], same_as: list[int]) -> None:
    """Which jobs are left out because another one is the same run."""
    if len(set(same_as)) == len(same_as):
        return
    pairs = [(names[number], names[first]) for number, first in enumerate(same_as) if first != number]
    repeated = [f"{name} again" if name == other else f"{name} is {other}" for name, other in pairs]
    shown = ", ".join(repeated[:5]) + (", ..." if len(repeated) > 5 else "")
    log_line(f"{len(repeated)} of {len(same_as)} runs are left out, as others are the same: {shown}")


def _continued(record: SweepRecord, before: SweepRecord | None) -> SweepRecord:
    """The record of a new sweep, or of a resumed one, which stays the one it was."""
    if before is None or not before.id:
        return replace(record, parent=before.parent if before else None, id=uuid.uuid4().hex)
    return replace(record, parent=before.parent, id=before.id)


def _begun(current: CurrentSweep, sweep: RunningSweep) -> SweepRecord:
    """The record on disk, then in MLflow; from the first of these on there is something to close."""
    sweep.record.save(sweep.root)
    current.begin(sweep)
    record = _opened(sweep)
    current.begin(replace(sweep, record=record))
    return record


def _opened(sweep: RunningSweep) -> SweepRecord:
    """The record with its parent run open in MLflow, after what dead sweeps left there was put in order."""
    record, root = sweep.record, sweep.root
    if not sweep.tracking.enabled:
        return record
    from rwkv_sweep.tracking import Tracker, close_abandoned_runs, open_parent

    def open_sweep(tracker: Tracker) -> str | None:
        if closed := close_abandoned_runs(tracker, own=root):
            log_line(f"{closed} run(s) that dead processes had left RUNNING were closed")
        return open_parent(tracker, record, root, redact(" ".join(sys.argv)))

    parent = sweep.servers.tracked(sweep.tracking, open_sweep, retry=True)
    record = replace(record, parent=parent)
    record.save(root)
    return record
