"""A job in a fresh process: clean memory figures, a time limit, and a crash that stays its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rwkv_sweep.records.own_files import CRASH_FILE
from rwkv_sweep.records.results import FAILED, RESULT_FILE, Result
from rwkv_sweep.utils.package_paths import PACKAGE

CHILD = "rwkv_sweep.sweep.runs.subprocess_main"


def run_isolated(
    run: dict[str, Any], planned: Result, folder: Path, root: Path, timeout_s: float | None = None
) -> Result:
    """Have a new process carry out the job, which leaves its record in `folder`.

    A process that takes longer than `timeout_s` seconds is killed; one that ends without a record has crashed. Both
    are failures with a reason. The process ends when this one does, whatever ends it.

    Args:
        run: the run's config as a mapping.
        folder: the job's.
        root: the sweep's.
    """
    request = {"run": run, "planned": asdict(planned), "folder": str(folder), "root": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-m", CHILD],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _search_path()},
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends that one
        text=True,
    )
    assert process.stdin is not None
    try:
        # By pipe, not as an argument, where every user of the machine could read a password. It stays open: by its end
        # the other process learns that this one is gone.
        with contextlib.suppress(BrokenPipeError):  # it died at once: see its exit code
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return _failed(planned, "Timeout", f"took longer than timeout_s={timeout_s:g} and was ended")
    finally:
        _kill(process)
    return _record(planned, folder, process.returncode)


def _record(planned: Result, folder: Path, code: int) -> Result:
    """What the process left; a failure where that is nothing."""
    if (folder / RESULT_FILE).exists():
        result = Result.load(folder)
        if result.id == planned.id:
            return result
    crash = folder / CRASH_FILE
    trace = crash.read_text(encoding="utf-8", errors="replace") if crash.exists() else ""
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", as the system does to a process when memory runs out" if name == "SIGKILL" else ""
        return _failed(planned, "Crash", f"its process was ended by {name}{hint}", trace)
    return _failed(planned, "Crash", f"its process ended with code {code} and left no record", trace)


def _failed(planned: Result, kind: str, message: str, trace: str = "") -> Result:
    error = {"kind": kind, "message": message, **({"traceback": trace} if trace else {})}
    return replace(planned, status=FAILED, error=error, ended=time.time())


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process and what it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _search_path() -> str:
    """Where this process finds its modules, for the other one."""
    return os.pathsep.join(dict.fromkeys([str(PACKAGE.parent), *filter(None, sys.path)]))
