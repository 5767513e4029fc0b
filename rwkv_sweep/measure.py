"""Latency, throughput and memory. Never read from a store: what is reported here was run."""

from __future__ import annotations

import contextlib
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from rwkv_sweep.devices import give_back_freed_memory
from rwkv_sweep.evaluate import ratio_interval

MIB = 2**20
QUEUED_BATCHES = 4
LEAST_BATCHES = 3
"""Fewer say nothing of how much they vary."""
RESAMPLES = 2000


@contextlib.contextmanager
def frozen_heap() -> Iterator[None]:
    """Within it the garbage collector leaves alone what exists already: walking through a million objects of imported
    libraries takes tens of milliseconds, which would fall on some samples and not on others. What the timed work
    itself leaves behind is collected as ever, inside its time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class Latency:
    """Wall time of single pairs in milliseconds. device_ms: of the device's work alone; empty on a CPU."""

    samples_ms: tuple[float, ...]
    device_ms: tuple[float, ...]

    def metrics(self) -> dict[str, float]:
        found = {"latency/mean_ms": float(np.mean(self.samples_ms))}
        for percent in (50, 95, 99):
            found[f"latency/p{percent}_ms"] = float(np.percentile(self.samples_ms, percent))
        if self.device_ms:
            found["latency/device_p50_ms"] = float(np.percentile(self.device_ms, 50))
        return found


def measure_latency(
    score_pair: Callable[[str, str], float],
    pairs: Sequence[tuple[str, str]],
    warmup: Sequence[tuple[str, str]],
    device: torch.device,
) -> Latency:
    """Time `score_pair` (two strings in, one score out) one pair at a time.

    Args:
        score_pair: the whole path: tokenize, forward, pool, aggregate, cosine.
        pairs: timed, each once.
        warmup: run before, untimed.
        device: synchronized before each reading of the clock.
    """
    for first, second in warmup:
        score_pair(first, second)
    samples_ms, device_ms = [], []
    with frozen_heap():
        for first, second in pairs:
            synchronize(device)
            events = _device_events(device)
            start = time.perf_counter()
            score_pair(first, second)
            if events is not None:
                events[1].record()
            synchronize(device)
            samples_ms.append((time.perf_counter() - start) * 1e3)
            if events is not None:
                device_ms.append(events[0].elapsed_time(events[1]))
    return Latency(tuple(samples_ms), tuple(device_ms))


def measure_throughput(
    work: Sequence[tuple[Callable[[], object], int]], seconds: float, device: torch.device
) -> dict[str, float]:
    """Tokens per second of packed batches, run one after another until `seconds` have passed or all are done.

    Args:
        work: of each batch, what runs it and how many tokens it has; in random order, as lengths differ.
        seconds: a batch that has begun is finished.
        device: synchronized after each batch; a GPU after each `QUEUED_BATCHES`, so that it need not wait while the
            host lays out the next.

    Returns:
        `throughput/tokens_per_s`, from three timed pieces on its 95 % bootstrap interval over them (`_lo`, `_hi`), and
        `throughput/tokens`, how many that was measured on.
    """
    counts: list[float] = []
    seconds_taken: list[float] = []
    together = QUEUED_BATCHES if device.type == "cuda" else 1
    with frozen_heap():
        for first in range(0, len(work), together):
            queued = work[first : first + together]
            synchronize(device)
            start = time.perf_counter()
            for run, _ in queued:
                run()
            synchronize(device)
            seconds_taken.append(time.perf_counter() - start)
            counts.append(float(sum(tokens for _, tokens in queued)))
            if sum(seconds_taken) >= seconds:
                break
    found = {"throughput/tokens_per_s": sum(counts) / sum(seconds_taken), "throughput/tokens": sum(counts)}
    if len(counts) >= LEAST_BATCHES:
        rate = ratio_interval(np.array(counts), np.array(seconds_taken), RESAMPLES, seed=0)
        found |= {"throughput/tokens_per_s_lo": rate.lo, "throughput/tokens_per_s_hi": rate.hi}
    return found


class MemoryWatch:
    """Peak memory between `__init__` and `metrics`, in MiB, beside what the weights take."""

    def __init__(self, device: torch.device, weights_bytes: int) -> None:
        self._device, self._weights = device, weights_bytes
        self.peak_is_of_this_run = _reset_process_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def metrics(self) -> dict[str, float]:
        found = {
            "memory/weights_mib": self._weights / MIB,
            "memory/process_peak_mib": _process_peak_bytes() / MIB,
        }
        if self._device.type == "cuda":
            allocated = torch.cuda.max_memory_allocated(self._device)
            found["memory/peak_allocated_mib"] = allocated / MIB
            found["memory/peak_reserved_mib"] = torch.cuda.max_memory_reserved(self._device) / MIB
            found["memory/peak_above_weights_mib"] = (allocated - self._weights) / MIB
        return found


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


def synchronize(device: torch.device) -> None:
    """Wait for the device's work, so that a clock read next tells of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_events(device: torch.device) -> tuple[torch.cuda.Event, torch.cuda.Event] | None:
    if device.type != "cuda":
        return None
    events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
    events[0].record()
    return events


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
