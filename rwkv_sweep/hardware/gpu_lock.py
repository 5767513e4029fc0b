"""Which GPU a job takes where the config leaves it open: jobs of one host spread out, and no two share one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from filelock import Timeout

from rwkv_sweep.config.schema import DeviceConfig
from rwkv_sweep.errors import first_line
from rwkv_sweep.utils.console import log_line_once
from rwkv_sweep.utils.shared_files import shared_lock
from rwkv_sweep.utils.user_folders import lock_folder

POLL_SECONDS = 0.2


class GpuChoice:
    """The GPUs that the jobs of one process take."""

    def __init__(self) -> None:
        self._last: int | None = None

    @contextlib.contextmanager
    def own(self, device: DeviceConfig, job: int) -> Iterator[DeviceConfig]:
        """The device with its GPU chosen, which no other job of this user on this host has until the end of the block.

        The first choice is the GPU this process used last, where its resident model is, then the job's number modulo
        the number of GPUs, then the next free one. A CPU, or a device whose `index` is given (which may thus be
        shared), stays as it is.

        Args:
            job: the job's number within its sweep.
        """
        count = torch.cuda.device_count() if device.type != "cpu" and torch.cuda.is_available() else 0
        if count == 0 or device.index is not None:
            yield device
            return
        first = job % count if self._last is None or self._last >= count else self._last
        index, lock = _take(count, first)
        self._last = index
        with lock:
            yield replace(device, index=index)


def _take(count: int, first: int) -> tuple[int, contextlib.ExitStack]:
    """A GPU, and what lets go of it; without locks to be had the first choice, which other jobs may have too."""
    while True:
        for index in [(first + offset) % count for offset in range(count)]:
            lock = contextlib.ExitStack()
            try:
                lock.enter_context(shared_lock(_lock_path(index), timeout=0))
            except Timeout:
                continue
            except OSError as error:
                log_line_once(f"GPUs are taken without locks, so that jobs may share one ({first_line(error)})")
                return first, lock
            return index, lock
        time.sleep(POLL_SECONDS)


def _lock_path(index: int) -> Path:
    """By the name the system has for the GPU: a process may see but some of them.

    Raises:
        OSError: this user has no temporary folder.
    """
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    name = visible[index] if index < len(visible) else str(index)
    return lock_folder() / f"gpu-{name.replace('/', '_')}.lock"
