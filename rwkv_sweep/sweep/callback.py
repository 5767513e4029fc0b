"""What happens around the jobs of a sweep: checks before, baselines once, the parent run, the summary after.

A single run (without -m) goes the same way, as a sweep of one job without a parent run.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from rwkv_sweep.config.error_messages import is_bad_input, one_line
from rwkv_sweep.config.launchers import runs_here
from rwkv_sweep.config.output_guard import guard_output, remember_config
from rwkv_sweep.config.schema import RunConfig, TrackingConfig
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.errors import BAD_INPUT, SOME_FAILED, FolderGoneError, ends_the_program, first_line, system_error
from rwkv_sweep.records.results import KILLED
from rwkv_sweep.records.sweep_record import STOP_FILE, SWEEP_FILE, SweepRecord
from rwkv_sweep.sweep.folder_checks import (
    RUN_KEY,
    SWEEP_KEY,
    Planned,
    check_jobs,
    check_places,
    check_root,
    named_root,
    require_name,
)
from rwkv_sweep.sweep.jobs import (
    compose_jobs,
    compose_once,
    job_overrides,
    load_seldom,
    quoted,
    require_values,
    run_only,
    swept_keys,
)
from rwkv_sweep.utils.closed_output import outlive_output
from rwkv_sweep.utils.console import announce, quiet_dependencies, say
from rwkv_sweep.utils.redaction import redact, remember, remembered

RESUMABLE = "; what had finished is kept, and the same command with resume=true runs the rest"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Running:
    """The sweep this process is running. tracking: as given, with what the record on disk leaves out. record: as on
    disk, from where it may be gone."""

    root: Path
    tracking: TrackingConfig
    record: SweepRecord


_current: _Running | None = None
"""For the end of the sweep and for `abandon_sweep`; jobs, which may run elsewhere, read the record on disk."""


def _not_swallowed(method: Callable[..., None]) -> Callable[..., None]:
    """Hydra turns a callback's exceptions into warnings and goes on, but lets SystemExit through. One line says
    what came, and the parent run is closed."""

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except BaseException as error:
            if ends_the_program(error):
                raise
            begun = sweep_is_running()
            with contextlib.suppress(Exception):  # the first error is the one to report
                abandon_sweep("FAILED")
            log.debug("".join(traceback.format_exception(error)))
            message = outcome(error) or f"{first_line(error)} (hydra.verbose=true says where)"
            print(f"error: {redact(message)}", file=sys.stderr)
            bad_input = isinstance(error, Exception) and is_bad_input(error) and not isinstance(error, FolderGoneError)
            refused_at_once = not begun and system_error(error) is not None
            raise SystemExit(BAD_INPUT if bad_input or refused_at_once else SOME_FAILED) from error

    return wrapped


class SweepCallback(Callback):
    """Hydra calls this around each run and multirun."""

    def __getstate__(self) -> dict[str, Any]:
        return {"secrets": remembered()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a launcher's worker: Hydra there writes the config's files before any code of a job runs."""
        remember(state["secrets"])
        outlive_output()
        guard_output()

    @_not_swallowed
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        remember_config(config)
        announce(1)
        _start(config, named_root(config.hydra.run.dir, RUN_KEY), [config], [], _name(config), multirun=False)

    @_not_swallowed
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        remember_config(config)
        swept, name = swept_keys(config), _name(config)
        load_seldom(config)
        _make_absolute(config)
        require_values(config)
        announce(len(job_overrides(config)))
        jobs = compose_jobs(config)
        kept = _start(config, Path(config.hydra.sweep.dir), jobs, swept, name, multirun=True)
        compose_once(config, jobs)
        run_only(config, kept)

    @_not_swallowed
    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        _end(Path(config.hydra.runtime.output_dir))

    @_not_swallowed
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        _end(Path(config.hydra.sweep.dir).absolute())


def abandon_sweep(status: str = KILLED) -> None:
    """Close the parent run of a sweep that was interrupted, or whose launcher failed; what finished stays."""
    if _current is not None:
        _close(_current.record, _current.tracking, status, [])


def sweep_is_running() -> bool:
    """Whether this process has a sweep that has begun and not ended."""
    return _current is not None


def outcome(error: BaseException) -> str | None:
    """One line for an error that somebody can act on (bad input, a full disk, a folder that is gone); None for a flaw
    of the program."""
    if _current is not None and not (_current.root / SWEEP_FILE).exists():
        return str(FolderGoneError(_current.root))
    if isinstance(error, Exception) and is_bad_input(error):
        return one_line(error)
    refused = system_error(error, _current.root if _current is not None else None)
    return refused if refused is None or _current is None else refused + RESUMABLE


def _make_absolute(config: DictConfig) -> None:
    """Make the sweep's folder absolute: a cluster's jobs start elsewhere.

    Raises:
        UserError: Hydra cannot take the folder's name.
    """
    folder = named_root(config.hydra.sweep.dir, SWEEP_KEY).absolute()
    require_name(folder, SWEEP_KEY)
    with open_dict(config.hydra):
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.sweep.dir = str(folder)
        # The jobs' configs are composed anew, from these.
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(str(folder))}")


def _name(config: DictConfig) -> str:
    """What was typed."""
    return redact(" ".join(config.hydra.overrides.task)) or "defaults"


def _start(
    config: DictConfig, root: Path, jobs: list[DictConfig], swept: list[str], name: str, multirun: bool
) -> list[int]:
    """Check, claim the folder, open the parent run, run the baselines; return the numbers of the jobs to run."""
    global _current
    quiet_dependencies()
    started = time.time()
    runs = [run_config(job) for job in jobs]
    # Imported here: composing a config must not load torch.
    from rwkv_sweep.records.sweep_folder import claim, prepare_resume, previous_sweep
    from rwkv_sweep.sweep.preflight import check_runs
    from rwkv_sweep.tracking import check_tracking, unused_variable

    root = root.absolute()
    first = runs[0] if runs else run_config(config)
    check_places(root, multirun, [*runs, first])
    for tracking in {repr(run.tracking): run.tracking for run in [*runs, first]}.values():
        check_tracking(tracking)
    checked = check_runs(runs, runs_here(config))
    kept = [number for number, first_number in enumerate(checked.same_as) if number == first_number]
    runs = [runs[number] for number in kept]
    names = _job_names(config, swept)
    folders = _checked_folders(
        config, root, [jobs[number] for number in kept], [names[number] for number in kept], first.resume
    )
    claim(root, first.resume, SWEEP_KEY if multirun else RUN_KEY)
    before = previous_sweep(root)
    record = _planned(name, first, runs, swept, root, started, multirun, before, folders)
    if before is not None:
        # The kind of a cluster's device is known on its nodes alone, and so are the keys.
        prepare_resume(root, before, folders, _keys(runs) if runs_here(config) else {})
    record.save(root)
    _current = _Running(root, first.tracking, record)
    if ignored := unused_variable(first.tracking, config.hydra.overrides.task, os.environ):
        say(ignored)
    record = _opened(record, first.tracking, root)
    _current = _Running(root, first.tracking, record)
    _say_repeated(names, checked.same_as)
    for each in checked.prepared:
        each.run_baselines(root, record.parent)
    return kept


def _job_names(config: DictConfig, swept: list[str]) -> list[str]:
    """What is swept, of each job; of a single run what was typed."""
    if not swept:
        return [_name(config)] * max(1, len(job_overrides(config)))
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


def _say_repeated(names: list[str], same_as: list[int]) -> None:
    """Which jobs are left out because another one is the same run."""
    if len(set(same_as)) == len(same_as):
        return
    pairs = [(names[number], names[first]) for number, first in enumerate(same_as) if first != number]
    repeated = [f"{name} again" if name == other else f"{name} is {other}" for name, other in pairs]
    shown = ", ".join(repeated[:5]) + (", ..." if len(repeated) > 5 else "")
    say(f"{len(repeated)} of {len(same_as)} runs are left out, as others are the same: {shown}")


def _planned(
    name: str,
    first: RunConfig,
    runs: list[RunConfig],
    swept: list[str],
    root: Path,
    started: float,
    multirun: bool,
    before: SweepRecord | None,
    folders: list[Path] | None,
) -> SweepRecord:
    """The record before any tracking; a resumed sweep stays the one it was."""
    from rwkv_sweep.records.job_folders import relative
    from rwkv_sweep.tracking.uris import lasting

    poolings = list(dict.fromkeys(run.pooling.name for run in runs or [first]))
    return SweepRecord(
        name=name,
        parent=before.parent if before else None,
        swept=swept,
        poolings=poolings,
        report=first.report,
        tracking=lasting(first.tracking),
        started=started,
        id=before.id if before and before.id else uuid.uuid4().hex,
        multirun=multirun,
        jobs=len(runs) or None,
        cwd=str(Path.cwd()),
        folders=None if folders is None else [relative(root, folder) for folder in folders],
    )


def _keys(runs: list[RunConfig]) -> Mapping[int, str]:
    from rwkv_sweep.sweep.run_key import run_key

    return {number: run_key(run) for number, run in enumerate(runs)}


def _opened(record: SweepRecord, tracking: TrackingConfig, root: Path) -> SweepRecord:
    """The record with its parent run open in MLflow, after what dead sweeps left there was put in order."""
    if not tracking.enabled:
        return record
    from rwkv_sweep.tracking import Tracker, mend, open_parent, tracked

    def open_sweep(tracker: Tracker) -> str | None:
        if closed := mend(tracker):
            say(f"{closed} run(s) that dead processes had left RUNNING were closed")
        return open_parent(tracker, record, root, redact(" ".join(sys.argv)))

    parent = tracked(tracking, open_sweep, retry=True)
    record = replace(record, parent=parent)
    record.save(root)
    return record


def _end(root: Path) -> None:
    global _current
    from rwkv_sweep.records.results import FAILED, FINDINGS, FINISHED
    from rwkv_sweep.records.sweep_folder import release, result_folders, sweep_results
    from rwkv_sweep.report.answers import find
    from rwkv_sweep.report.summary import print_summary, write_summary
    from rwkv_sweep.report.tables import write_summary_table

    assert _current is not None
    tracking = _current.tracking
    if not (root / SWEEP_FILE).exists():
        raise FolderGoneError(root)
    record = SweepRecord.load(root)
    results = sweep_results(root)
    missing = _missing(record, results)
    # What this machine cannot run is a result; a command that asks for nothing else was refused before it began.
    failed = bool(missing) or any(result.status not in FINDINGS for result in results)
    findings = find(record, results, result_folders(root))
    artifacts = [write_summary(results, root), write_summary_table(findings, record, root)]
    if record.report is not None:
        from rwkv_sweep.report import write_report

        artifacts += write_report(record.report, results, root)
    artifacts += _page(root, findings)
    _close(record, tracking, FAILED if failed else FINISHED, artifacts)
    print_summary(results, replace(record, tracking=asdict(tracking)), root, findings.answer)
    if missing:
        stopped = " after a failure (on_error=stop)" if (root / STOP_FILE).exists() else ""
        say(f"{missing} of {record.jobs} jobs left no record{stopped}: the same command with resume=true runs them")
    release(root)
    _current = None
    if failed:
        raise SystemExit(SOME_FAILED)


def _page(root: Path, findings: Any) -> list[Path]:
    """report.html; whatever hinders it must not keep the sweep from its end."""
    from rwkv_sweep.report.sweep_page import write_page

    try:
        return [write_page(root, findings)]
    except Exception as error:
        say(
            f"no report.html: {one_line(error)}; to try again: rwkv-sweep report {shlex.quote(str(root))}",
            error=True,
        )
        return []


def _missing(record: SweepRecord, results: list[Any]) -> int:
    """How many jobs left no record: a launcher may lose some."""
    return max(0, (record.jobs or 0) - sum(result.kind == "model" for result in results))


def _close(record: SweepRecord, tracking: TrackingConfig, status: str, artifacts: list[Path]) -> None:
    """Bring in what the server did not take when it happened, then give the parent run its last state."""
    if not tracking.enabled or _current is None:
        return
    from rwkv_sweep.tracking import Tracker, end_parent, hurry, import_folder, parent_run, tracked

    root = _current.root
    is_there = (root / SWEEP_FILE).exists()
    if status == KILLED:
        hurry()

    def close(tracker: Tracker) -> bool:
        if is_there:
            import_folder(tracker, root)
        parent = parent_run(tracker, record, root) if record.parent is None and is_there else record.parent
        if parent is not None:
            end_parent(tracker, parent, status, root, artifacts)
        return True

    if tracked(tracking, close, retry=True) is None and is_there:
        say(f"to track them later: rwkv-sweep import {shlex.quote(str(root))}")
