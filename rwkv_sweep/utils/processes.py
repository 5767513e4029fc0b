"""Which process wrote something, and whether it still lives."""

from __future__ import annotations

import functools
import os
import socket

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
