"""The command line of a run or a sweep. Hydra composes the config of a job, `sweep.run` carries it out."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import hydra
from omegaconf import DictConfig

from rwkv_sweep.config.hydra_store import conf_dir, register_schemas, share_config_store
from rwkv_sweep.config.output_guard import guard_command
from rwkv_sweep.errors import BAD_INPUT, SOME_FAILED, interrupt_behind
from rwkv_sweep.utils.closed_output import outlive_output, output_code
from rwkv_sweep.utils.processes import collection_paused
from rwkv_sweep.utils.redaction import redact
from rwkv_sweep.utils.signals import exit_code, handle_termination, let_go
from rwkv_sweep.version import __version__

_shows_traces = True
"""Whether errors go to Hydra, for a user who has set HYDRA_FULL_ERROR; `main` sets it otherwise."""


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _run(cfg: DictConfig) -> float | list[float] | None:
    # Imported here: torch, transformers and mlflow take seconds that --help, --cfg and completion need not pay.
    from rwkv_sweep.sweep.current import CURRENT
    from rwkv_sweep.sweep.runs.run import run_task

    try:
        return run_task(cfg)
    except Exception as error:
        # Jobs record their own failures, so that this is the sweep's: its folder or its disk is gone. Hydra would start
        # all other jobs first, and add a line of its own.
        if _shows_traces or not CURRENT.is_running or interrupt_behind(error) is not None:
            raise
        _end_with(error)


def main() -> None:
    """Run the command line of this process; bad input ends in one line on stderr and exit code 2."""
    # Before anything loads OpenMP: threads that spin long while they wait take cores from whatever else runs; on a busy
    # machine of two cores a forward pass then took 0.4 to 3 s in place of 0.04 (docs/log.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # A log file that cannot be written is no reason for a traceback: the record's own error gives the reason.
    logging.raiseExceptions = False
    outlive_output()
    guard_command(sys.argv[1:])
    register_schemas()
    share_config_store()
    sys.argv[1:] = modes_first(sys.argv[1:])
    # Hydra prints errors in its own several lines unless it is to raise them; a user who sets the variable gets traces.
    if "--version" in sys.argv[1:]:
        print(f"rwkv_sweep {__version__} (Hydra {hydra.__version__})")
        return
    if os.environ.get("HYDRA_FULL_ERROR"):
        _run()
        return
    try:
        with collection_paused():  # until the sweep has begun
            _run_in_order()
    except SystemExit as end:
        if end.code:
            output_code()
            raise
    if code := output_code():
        sys.exit(code)


def _run_in_order() -> None:
    """`_run`, with one line for what goes wrong and an exit code for each way to end."""
    global _shows_traces
    _shows_traces = False
    os.environ["HYDRA_FULL_ERROR"] = "1"
    handle_termination()
    try:
        _run()
    except (Exception, KeyboardInterrupt) as error:
        if (interrupt := interrupt_behind(error)) is None:
            _end_with(error)
        from rwkv_sweep.sweep.current import CURRENT

        let_go(error)
        CURRENT.abandon()
        print("interrupted: what had finished is kept", file=sys.stderr)
        sys.exit(exit_code(interrupt))


def _end_with(error: BaseException) -> NoReturn:
    """Exit with one line for bad input and for a launcher that gave up; raise what is a flaw of the program."""
    from rwkv_sweep.sweep.current import CURRENT, RESUMABLE

    begun, message = CURRENT.is_running, CURRENT.outcome(error)
    if begun:
        CURRENT.abandon("FAILED")
    if message is None and not begun:
        raise error
    # Jobs record their own failures, so that this is their launcher's: a worker was killed, a cluster went away.
    lines = str(error).strip().splitlines() or ["no message"]
    print(
        f"error: {redact(message or f'the launcher failed ({type(error).__name__}: {lines[0]:.300}){RESUMABLE}')}",
        file=sys.stderr,
    )
    sys.exit(SOME_FAILED if begun else BAD_INPUT)


def modes_first(arguments: list[str]) -> list[str]:
    """The same arguments with `-m` and the like in front: argparse takes no overrides on both sides of them."""
    modes = ("-m", "--multirun", "-r", "--run")
    return sorted(arguments, key=lambda argument: argument not in modes)
