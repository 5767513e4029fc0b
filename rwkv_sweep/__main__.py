"""The command line: `python -m rwkv_sweep` and `rwkv-sweep`. Hydra composes a run, `task` carries it out."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import hydra
from omegaconf import DictConfig

from rwkv_sweep.config_errors import is_bad_input, one_line
from rwkv_sweep.config_store import conf_dir, register_schemas, share_config_store
from rwkv_sweep.interrupts import Terminated, heed_sigterm
from rwkv_sweep.output_guard import guard_command
from rwkv_sweep.redaction import redact

INTERRUPTED, TERMINATED = 130, 143
BAD_INPUT, SOME_FAILED = 2, 1


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _run(cfg: DictConfig) -> float | None:
    # Imported here: torch, transformers and mlflow take seconds that --help, --cfg and completion need not pay.
    from rwkv_sweep.task import run_task

    return run_task(cfg)


def main() -> None:
    """Run the command line of this process; bad input ends in one line on stderr and exit code 2."""
    # Before anything loads OpenMP: threads that spin long while they wait take cores from whatever else runs; on a busy
    # machine of two cores a forward pass then took 0.4 to 3 s in place of 0.04 (docs/log.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    guard_command(sys.argv[1:])
    register_schemas()
    share_config_store()
    sys.argv[1:] = modes_first(sys.argv[1:])
    # Hydra prints errors in its own several lines unless told to raise them; a user who sets the variable gets traces.
    if os.environ.get("HYDRA_FULL_ERROR"):
        _run()
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"
    heed_sigterm()
    try:
        _run()
    except Exception as error:
        _end_with(error)
    except KeyboardInterrupt as interrupt:
        from rwkv_sweep.sweep import abandon_sweep

        abandon_sweep()
        print("interrupted: what had finished is kept", file=sys.stderr)
        sys.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)


def _end_with(error: Exception) -> NoReturn:
    """Exit with one line for bad input and for a launcher that gave up; raise what is a flaw of the program."""
    from rwkv_sweep.sweep import abandon_sweep, sweep_is_running

    if is_bad_input(error):
        print(f"error: {redact(one_line(error))}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    if not sweep_is_running():
        raise error
    # Jobs record their own failures, so this is their launcher's: a worker was killed, a cluster went away.
    abandon_sweep("FAILED")
    lines = redact(str(error)).strip().splitlines() or ["no message"]
    print(f"error: the launcher failed ({type(error).__name__}: {lines[0]:.300})", file=sys.stderr)
    print("what had finished is kept: the same command with resume=true runs the rest", file=sys.stderr)
    sys.exit(SOME_FAILED)


def modes_first(arguments: list[str]) -> list[str]:
    """The same arguments with `-m` and the like in front: argparse takes no overrides on both sides of them."""
    modes = ("-m", "--multirun", "-r", "--run")
    return sorted(arguments, key=lambda argument: argument not in modes)


if __name__ == "__main__":
    main()
