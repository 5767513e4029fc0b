"""Which GPU a job takes where the config leaves it open: jobs of one host spread out, and no two share one."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from rwkv_sweep.config import RunConfig

POLL_SECONDS = 0.2

_last: int | None = None
"""The GPU that this process used last; its warm model lies there."""


@contextlib.contextmanager
def own_gpu(run: RunConfig, job: int) -> Iterator[RunConfig]:
    """The run with its GPU chosen, which no other job of this user on this host has until the end of the block.

    The first choice is the GPU this process used last, then the job's number modulo the number of GPUs, then the next
    free one. A run on the CPU, or one whose `device.index` is given (which may thus share a GPU), stays as it is.

    Args:
        job: the job's number within its sweep.
    """
    global _last
    count = torch.cuda.device_count() if run.device.type != "cpu" and torch.cuda.is_available() else 0
    if count == 0 or run.device.index is not None:
        yield run
        return
    index, lock = _take(count, _last if _last is not None and _last < count else job % count)
    _last = index
    try:
        yield replace(run, device=replace(run.device, index=index))
    finally:
        lock.release()


def _take(count: int, first: int) -> tuple[int, FileLock]:
    while True:
        for index in [(first + offset) % count for offset in range(count)]:
            lock = FileLock(_lock_path(index))
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                return index, lock
        time.sleep(POLL_SECONDS)


def _lock_path(index: int) -> Path:
    """By the name the system has for the GPU: a process may see but some of them."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    name = visible[index] if index < len(visible) else str(index)
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"rwkv_sweep-{user}-gpu-{name.replace('/', '_')}.lock"
