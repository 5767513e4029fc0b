"""Peak memory of a piece of work, beside what the weights take."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from rwkv_sweep.hardware.devices import give_back_freed_memory
from rwkv_sweep.profiling.timing import synchronize

MIB = 2**20


class MemoryWatch:
    """Peak memory between the last `restart` (or `__init__`) and `stop`, in MiB, beside what the weights take.

    What is compiled, tuned or read in before `restart` does not count: that belongs to the first job of a process, not
    to its configuration.
    """

    def __init__(self, device: torch.device, weights_bytes: int, others_bytes: int = 0) -> None:
        """others_bytes: on a GPU, of what is there beside this model all the while, such as another model; it does
        not count."""
        self._device, self._weights, self._others = device, weights_bytes, others_bytes
        self._stopped: dict[str, float] | None = None
        self.peak_is_of_this_run = False
        self.restart()

    def restart(self) -> None:
        """Forget all peaks up to now, and give back memory that is kept but not used."""
        self._stopped = None
        synchronize(self._device)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        self.peak_is_of_this_run = _reset_process_peak()

    def stop(self) -> None:
        """Read the peaks; what follows does not count."""
        synchronize(self._device)
        self._stopped = self._read()

    def metrics(self) -> dict[str, float]:
        """`memory/*`, see docs/metrics.md."""
        return self._read() if self._stopped is None else self._stopped

    def _read(self) -> dict[str, float]:
        peaks = {
            "memory/weights_mib": self._weights / MIB,
            "memory/process_peak_mib": _process_peak_bytes() / MIB,
        }
        if self._device.type == "cuda":
            allocated = torch.cuda.max_memory_allocated(self._device) - self._others
            reserved = torch.cuda.max_memory_reserved(self._device) - self._others
            peaks["memory/peak_allocated_mib"] = allocated / MIB
            peaks["memory/peak_reserved_mib"] = reserved / MIB
            peaks["memory/peak_above_weights_mib"] = (allocated - self._weights) / MIB
        return peaks


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most memory that tensors made during `work` took at one time, beyond what there was before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    live = peak = 0
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


def _reset_process_peak() -> bool:
    """Start the process's peak anew where the system can (Linux); elsewhere the peak is that of the whole process."""
    give_back_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _process_peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peak if sys.platform == "darwin" else peak * 1024, psutil.Process().memory_info().rss)
