"""Which process wrote something, and whether it still lives; how this one starts and ends."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import os
import socket
import sys
import threading
from collections.abc import Iterator

import psutil

SAME_START_S = 2.0
"""A process's start time is read from the system's clock and boot time, which may shift a little between readings."""


@functools.cache
def _identity(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def this_process() -> str:
    """`host:pid:start`, start in seconds since the epoch; pids are used again, start times are not."""
    return _identity(os.getpid())


def is_dead(process: str) -> bool:
    """Whether a process identified by `this_process` has surely ended. One on another host is taken to live."""
    host, pid, start = process.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        running = psutil.Process(int(pid))
        return abs(running.create_time() - float(start)) > SAME_START_S or running.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """No garbage collection within, unless `resume_collection` ends the pause.

    Imports of torch, MLflow and the like make a million objects, none of which is garbage: looking through them takes a
    third of the imports' time (docs/log.md).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resume_collection() -> None:
    """Collect garbage again, of objects made from here on: those of the imports stay as long as the process.

    Nothing that is to be freed later may exist yet.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def import_beside(*modules: str) -> None:
    """Import modules that are needed later in a thread of their own, while the model is loaded and runs.

    Whoever imports one meanwhile waits for it, and one that cannot be imported fails there, where it is used.
    """

    def work() -> None:
        for module in modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)

    threading.Thread(target=work, name="imports", daemon=True).start()


class QuickExit:
    """Ends the process without taking apart its modules, once threads have ended and all other exit functions have run.

    code: the process's exit code; None, as long as it is not known, leaves the end to Python.
    """

    def __init__(self) -> None:
        self.code: int | None = None

    def register(self) -> None:
        """Before anything else registers an exit function: the first one registered runs last."""
        atexit.register(self._leave)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note the exit code with which the block ends; an exception that Python will show leaves it unknown."""
        try:
            yield
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                self.code = end.code or 0
            raise
        self.code = 0

    def _leave(self) -> None:
        if self.code is None:
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # Python gives the reason and the code
            return
        os._exit(self.code)
