"""One job: what is known of it before, the measuring of it, its record, tracking."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rwkv_sweep.config.output_guard import guard_output
from rwkv_sweep.config.params import flat_params, run_name
from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.errors import FolderGoneError, ends_the_program, interrupt_behind
from rwkv_sweep.records.failures import failed
from rwkv_sweep.records.job_folders import note_folder
from rwkv_sweep.records.own_files import MULTIRUN_FILE, remove_run
from rwkv_sweep.records.results import FAILED, FINISHED, KILLED, RESULT_FILE, UNSUPPORTED, Result
from rwkv_sweep.records.sweep_record import STOP_FILE, SWEEP_FILE, SweepRecord
from rwkv_sweep.sweep.runs.job import Job, Place
from rwkv_sweep.sweep.runs.measuring import attempt
from rwkv_sweep.sweep.runs.process import THIS_PROCESS
from rwkv_sweep.sweep.runs.resume import recorded, reuse_finished
from rwkv_sweep.sweep.runs.run_key import run_key
from rwkv_sweep.sweep.runs.subprocess_run import run_isolated
from rwkv_sweep.utils.console import log_line, quiet_dependencies
from rwkv_sweep.utils.files import write_atomically
from rwkv_sweep.utils.redaction import SECRETS, redact_files
from rwkv_sweep.utils.signals import interrupts_wait, let_go
from rwkv_sweep.utils.stage_timer import Stopwatch


def run_task(cfg: DictConfig) -> float | list[float] | None:
    """Carry out one job; a failure is recorded and reported in one line, and the rest of a sweep goes on.

    Returns:
        The metrics that `objectives` names (for optimizing sweepers), one as a number; None where one is missing.
    """
    quiet_dependencies()
    run = run_config(cfg)
    place = _place(partial(run_name, run))
    _forget_secrets(run.tracking.uri, place)
    if (place.root / STOP_FILE).exists():
        return None
    log_line(place.name)
    planned = Result(place.name, "model", FAILED, flat_params(run), started=time.time(), id=uuid.uuid4().hex)
    clock = Stopwatch()
    try:
        planned = replace(planned, key=run_key(run, THIS_PROCESS.fingerprints))
        finished = recorded(place.folder, planned.key)
        if finished is None and run.resume:
            finished = reuse_finished(
                place.folder, place.root, planned.key, place.name, run.tracking, THIS_PROCESS.servers
            )
        if finished is not None:
            log_line(f"{place.name}: finished before, not run again")
            _track(finished, run.tracking, place, again=True)
            return _objectives(finished, run.objectives)
        with THIS_PROCESS.gpus.own(run.device, place.number) as device:
            chosen = replace(run, device=device)
            if run.isolate:
                result = run_isolated(asdict(chosen), planned, place.folder, place.root, run.timeout_s)
            else:
                result = attempt(Job(chosen, planned, place, clock, THIS_PROCESS))
        result = replace(result, tags={**result.tags, "launcher": _launcher(), "isolated": str(run.isolate).lower()})
    except BaseException as error:
        if (interrupt := interrupt_behind(error)) is not None:
            let_go(error)
            _hurry(run.tracking)
            _keep(replace(planned, status=KILLED, ended=time.time()), run.tracking, place, clock)
            raise interrupt from None
        if ends_the_program(error):
            raise
        # Before anything was measured: model or data are gone.
        result = failed(planned, error)
    _keep(result, run.tracking, place, clock)
    _report_failure(result, run.on_error, place)
    return _objectives(result, run.objectives)


def _objectives(result: Result, names: list[str]) -> float | list[float] | None:
    values = [result.metrics[name] for name in names if name in result.metrics]
    if len(values) < len(names):
        return None
    return values[0] if len(values) == 1 else values


def _place(name: Callable[[list[str], list[str]], str]) -> Place:
    """name: of the run, by its overrides and the sweep's keys, see `run_name`."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    root = Path(hydra.sweep.dir).absolute() if hydra.mode is not None and hydra.mode.name == "MULTIRUN" else folder
    if not (root / SWEEP_FILE).exists():
        remove_run(folder)  # what Hydra has just written of this job
        with contextlib.suppress(OSError):
            root.rmdir()
        raise FolderGoneError(root)
    record = SweepRecord.load(root)
    if Path(record.cwd).is_dir():
        os.chdir(record.cwd)  # a cluster's workers start elsewhere, and relative paths are the command's
    number = 0 if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    note_folder(root, record, number, folder)
    return Place(folder, root, name(list(hydra.overrides.task), record.swept), record, number)


def _launcher() -> str:
    """Speed is that of a busy machine where the launcher runs several jobs at once."""
    return str(HydraConfig.get().runtime.choices.get("hydra/launcher", "basic"))


def _forget_secrets(uri: str, place: Place) -> None:
    """Hydra may have written the whole config in a launcher's worker that knew no secrets yet."""
    SECRETS.remember_uri(uri)
    guard_output()
    hydra_files = (place.folder / (HydraConfig.get().output_subdir or ".hydra")).glob("*.yaml")
    redact_files([*hydra_files, place.root / MULTIRUN_FILE])


def _keep(result: Result, tracking: TrackingConfig, place: Place, clock: Stopwatch) -> None:
    """Record first, MLflow second; then the record once more, with how long that took.

    An interrupt waits for the record, not for the server, which may take long: what that has in part is completed from
    the record at the sweep's end.
    """
    result = replace(result, metrics={**result.metrics, **clock.metrics()})
    with clock.stage("tracking"):
        try:
            with interrupts_wait():
                result.save(place.folder)
        except OSError as error:
            log_line(f"{place.name}: its record cannot be written to {place.folder} ({error.strerror})", error=True)
            return
        _track(result, tracking, place)
    result = replace(result, metrics={**result.metrics, **clock.metrics()})
    if (place.folder / RESULT_FILE).exists():  # not removed meanwhile
        with interrupts_wait(), contextlib.suppress(OSError):  # without this one figure the record is still whole
            result.save(place.folder)


def _hurry(tracking: TrackingConfig) -> None:
    if tracking.enabled:
        from rwkv_sweep.tracking import hurry

        hurry()


def _track(result: Result, tracking: TrackingConfig, place: Place, again: bool = False) -> None:
    THIS_PROCESS.servers.track_result(tracking, result, place.folder, place.record.parent, again)


def _report_failure(result: Result, on_error: str, place: Place) -> None:
    """Log why a run did not finish, and stop the sweep where `on_error=stop`."""
    message = result.error["message"] if result.error else ""
    if result.status == UNSUPPORTED:
        log_line(f"{place.name} unsupported: {message}")
    elif result.status != FINISHED:
        log_line(f"{place.name} failed: {message}", error=True)
        if on_error == "stop":
            write_atomically(place.root / STOP_FILE, place.name + "\n")
