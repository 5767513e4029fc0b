"""Hydra's hooks around the jobs of a sweep; what they do is in `starting` and `ending`.

A single run (without -m) goes the same way, as a sweep of one job without a parent run.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from rwkv_sweep.config.error_messages import is_bad_input
from rwkv_sweep.config.output_guard import guard_output, remember_config
from rwkv_sweep.errors import (
    BAD_INPUT,
    SOME_FAILED,
    FolderGoneError,
    ends_the_program,
    first_line,
    interrupt_behind,
    system_error,
)
from rwkv_sweep.records.results import FAILED
from rwkv_sweep.sweep.current import CURRENT
from rwkv_sweep.sweep.ending import finish
from rwkv_sweep.sweep.folder_checks import RUN_KEY, SWEEP_KEY, named_root, require_name
from rwkv_sweep.sweep.jobs import (
    PlannedJobs,
    compose_jobs,
    job_overrides,
    quoted,
    require_values,
    swept_keys,
)
from rwkv_sweep.sweep.progress_reports import ProgressReports, runs_in_order
from rwkv_sweep.sweep.starting import start, typed
from rwkv_sweep.utils.closed_output import outlive_output
from rwkv_sweep.utils.console import announce
from rwkv_sweep.utils.redaction import SECRETS, redact

log = logging.getLogger(__name__)


def _not_swallowed(method: Callable[..., None]) -> Callable[..., None]:
    """Hydra turns a callback's exceptions into warnings and goes on, but lets SystemExit through. One line reports
    what came, and the parent run is closed."""

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except BaseException as error:
            if ends_the_program(error):
                raise interrupt_behind(error) or error from None
            begun = CURRENT.is_running
            with contextlib.suppress(Exception):  # the first error is the one to report
                CURRENT.abandon(FAILED)
            log.debug("".join(traceback.format_exception(error)))
            message = CURRENT.outcome(error) or f"{first_line(error)} (hydra.verbose=true says where)"
            print(f"error: {redact(message)}", file=sys.stderr)
            bad_input = isinstance(error, Exception) and is_bad_input(error) and not isinstance(error, FolderGoneError)
            refused_at_once = not begun and system_error(error) is not None
            raise SystemExit(BAD_INPUT if bad_input or refused_at_once else SOME_FAILED) from error

    return wrapped


class SweepCallback(Callback):
    """Hydra calls this around each run and multirun.

    planned_jobs: those of a multirun that has begun; the sweeper runs them.
    reports: on jobs that other processes run.
    """

    planned_jobs: PlannedJobs | None = None
    reports: ProgressReports | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"secrets": SECRETS.remembered()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a launcher's worker: Hydra there writes the config's files before any code of a job runs."""
        SECRETS.remember(state["secrets"])
        outlive_output()
        guard_output()

    @_not_swallowed
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        remember_config(config)
        announce(1)
        start(CURRENT, config, named_root(config.hydra.run.dir, RUN_KEY), [config], [], typed(config))

    @_not_swallowed
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        remember_config(config)
        swept, name = swept_keys(config), typed(config)
        _make_absolute(config)
        require_values(config)
        announce(len(job_overrides(config)) or None)
        jobs = compose_jobs(config)
        kept = start(CURRENT, config, Path(config.hydra.sweep.dir), jobs, swept, name)
        self.planned_jobs = PlannedJobs.of(config, jobs, kept)
        if CURRENT.sweep is not None and not runs_in_order(config):
            self.reports = ProgressReports(CURRENT.sweep.root, CURRENT.sweep.record)
            self.reports.start()

    @_not_swallowed
    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        finish(CURRENT, Path(config.hydra.runtime.output_dir))

    @_not_swallowed
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.reports is not None:
            self.reports.stop()
        finish(CURRENT, Path(config.hydra.sweep.dir).absolute())


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
