"""Latency of single pairs: two strings in, one score out, one pair at a time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rwkv_sweep.profiling.timing import MachineReference, frozen_heap, synchronize
from rwkv_sweep.stats.intervals import Interval, median_interval

SEGMENTS = 4
"""The machine's reference is sampled before, between and after this many parts of the pairs."""
RESAMPLES = 2000

ScorePair = Callable[[str, str], float]


@dataclass(frozen=True)
class Latency:
    """Wall time of single pairs in milliseconds.

    Attributes:
        samples_ms: of each pair.
        device_ms: of the device's work alone; empty on a CPU.
        reference: GFLOP/s of the machine's reference product around each sample; empty where there is none.
    """

    samples_ms: tuple[float, ...]
    device_ms: tuple[float, ...]
    reference: tuple[float, ...] = ()

    def metrics(self) -> dict[str, float]:
        """`latency/*`, see docs/metrics.md."""
        values = {"latency/mean_ms": float(np.mean(self.samples_ms))}
        values |= self._median(np.array(self.samples_ms)).metrics("latency/p50_ms")
        for percent in (95, 99):
            values[f"latency/p{percent}_ms"] = float(np.percentile(self.samples_ms, percent))
        if self.device_ms:
            values["latency/device_p50_ms"] = float(np.percentile(self.device_ms, 50))
        if self.reference:
            ratios = np.array(self.samples_ms) * np.array(self.reference) * 1e-3
            values |= self._median(ratios).metrics("latency/ratio")
        return values

    @staticmethod
    def _median(values: np.ndarray) -> Interval:
        return median_interval(values, RESAMPLES, seed=0)


def measure_latency(
    score_pair: ScorePair,
    pairs: Sequence[tuple[str, str]],
    warmup: Sequence[tuple[str, str]],
    device: torch.device,
    reference: MachineReference | None = None,
) -> Latency:
    """Time `score_pair` one pair at a time.

    Args:
        score_pair: the whole path: tokenize, forward, pool, aggregate, cosine.
        pairs: timed, each once.
        warmup: run before, untimed.
        device: waited for before each reading of the clock.
        reference: sampled between parts of the pairs, outside their time; a pair is run untimed after each sample, as
            the product leaves nothing of a pair's data in the caches.
    """
    for pair in warmup:
        score_pair(*pair)
    samples_ms: list[float] = []
    device_ms: list[float] = []
    around: list[float] = []
    before = None if reference is None else reference.sample()
    with frozen_heap():
        for part in _parts(pairs, SEGMENTS if reference is not None else 1):
            if reference is not None and warmup:
                score_pair(*part[0])
            for pair in part:
                wall, alone = _time_pair(score_pair, pair, device)
                samples_ms.append(wall)
                device_ms += alone
            if reference is not None and before is not None:
                after = reference.sample()
                around += [(before + after) / 2] * len(part)
                before = after
    return Latency(tuple(samples_ms), tuple(device_ms), tuple(around))


def _parts(pairs: Sequence[tuple[str, str]], count: int) -> list[Sequence[tuple[str, str]]]:
    """`pairs` in order, in at most `count` parts of about one size, none of them empty."""
    edges = [len(pairs) * part // count for part in range(count + 1)]
    return [pairs[start:end] for start, end in itertools.pairwise(edges) if end > start]


def _time_pair(score_pair: ScorePair, pair: tuple[str, str], device: torch.device) -> tuple[float, list[float]]:
    """Milliseconds of one pair, and of the device alone where it keeps its own time."""
    synchronize(device)
    if device.type != "cuda":
        start = time.perf_counter()
        score_pair(*pair)
        return (time.perf_counter() - start) * 1e3, []
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = torch.cuda.current_stream(device)
    begin.record(stream)
    start = time.perf_counter()
    score_pair(*pair)
    end.record(stream)
    synchronize(device)
    return (time.perf_counter() - start) * 1e3, [begin.elapsed_time(end)]
