"""The other side of `subprocess_run`: `python -m` of this module runs the one job in its input."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
from pathlib import Path

from omegaconf import OmegaConf

from rwkv_sweep.config.output_guard import guard_command
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.records.own_files import CRASH_FILE
from rwkv_sweep.records.results import Result
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.sweep.runs.job import Job, Place
from rwkv_sweep.sweep.runs.measuring import attempt
from rwkv_sweep.sweep.runs.process import THIS_PROCESS
from rwkv_sweep.utils.closed_output import outlive_output
from rwkv_sweep.utils.console import quiet_dependencies
from rwkv_sweep.utils.redaction import SECRETS
from rwkv_sweep.utils.stage_timer import Stopwatch


def main() -> None:
    request = json.loads(sys.stdin.readline())
    SECRETS.remember_uri(request["run"]["tracking"]["uri"])
    outlive_output()
    guard_command([])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet_dependencies()
    folder, root = Path(request["folder"]), Path(request["root"])
    planned = Result(**request["planned"])
    crash = folder / CRASH_FILE
    with crash.open("w") as file:
        faulthandler.enable(file)
        clock = Stopwatch()
        place = Place(folder, root, planned.name, SweepRecord.load(root))
        run = run_config(OmegaConf.create(request["run"]))
        result = attempt(Job(run, planned, place, clock, THIS_PROCESS))
        faulthandler.disable()
    crash.unlink()
    result.save(folder)


def _end_with_parent() -> None:
    """The pipe stays open as long as the process that wrote to it lives."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
