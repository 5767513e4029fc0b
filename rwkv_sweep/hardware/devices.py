"""Where a run computes, and what to call it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
from pathlib import Path

import torch

from rwkv_sweep.config.schema import DeviceConfig
from rwkv_sweep.errors import UserError


def resolve_device(config: DeviceConfig) -> torch.device:
    """The device that `config` means on this machine; `auto` is the first GPU, or the CPU where there is none.

    Raises:
        UserError: a GPU that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.type == "cpu" or (config.type == "auto" and count == 0):
        return torch.device("cpu")
    index = config.index or 0
    if index >= count:
        have = f"{count} CUDA device(s), device.index 0 to {count - 1}" if count else "no CUDA device: use device=cpu"
        raise UserError(f"device={config.type} device.index={index} is not on this machine, which has {have}")
    return torch.device("cuda", index)


def current_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Within it `device` is the current one, which streams, graphs, events and kernels are made for by default."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def set_threads(config: DeviceConfig) -> None:
    """Use as many CPU threads as asked for."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones (glibc; elsewhere nothing happens).

    By default it hands blocks of a megabyte and more back to the system, which clears them page by page when they are
    taken again: a third of the time of a forward pass on the CPU.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def give_back_freed_memory() -> None:
    """Return to the system what `keep_freed_memory` kept, so that a process's peak is that of what runs next."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def device_tags(device: torch.device) -> dict[str, str]:
    """Name of the device, and threads or CUDA version."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return {"device": str(device), "device_name": name, "cuda": str(torch.version.cuda)}
    return {"device": "cpu", "device_name": _processor(), "threads": str(torch.get_num_threads())}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
