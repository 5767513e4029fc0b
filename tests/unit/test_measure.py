"""Latency, throughput and memory, against clocks that are made up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from rwkv_sweep.measure import Latency, MemoryWatch, measure_latency, measure_throughput

CPU = torch.device("cpu")


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    yield made


def test_latency_of_a_made_up_function(clock: Clock) -> None:
    seconds = np.random.default_rng(0).gamma(2.0, 0.01, size=40)
    pending = iter([9.0, 9.0, *seconds])
    calls: list[tuple[str, str]] = []

    def score_pair(first: str, second: str) -> float:
        calls.append((first, second))
        clock.now += next(pending)
        return 0.0

    pairs = [(f"a{index}", f"b{index}") for index in range(40)]
    warmup = [("w", "1"), ("w", "2")]
    latency = measure_latency(score_pair, pairs, warmup, CPU)
    assert calls == warmup + pairs
    np.testing.assert_allclose(latency.samples_ms, seconds * 1e3, rtol=1e-9)
    assert latency.device_ms == ()
    expected = {
        "latency/mean_ms": seconds.mean() * 1e3,
        "latency/p50_ms": np.percentile(seconds, 50) * 1e3,
        "latency/p95_ms": np.percentile(seconds, 95) * 1e3,
        "latency/p99_ms": np.percentile(seconds, 99) * 1e3,
    }
    assert latency.metrics() == pytest.approx(expected, rel=1e-9)


def test_device_time_stands_beside_wall_time() -> None:
    metrics = Latency((4.0, 2.0), (1.0, 3.0, 2.5)).metrics()
    assert metrics["latency/device_p50_ms"] == 2.5 and metrics["latency/mean_ms"] == 3.0


def test_throughput_stops_after_the_seconds_given(clock: Clock) -> None:
    calls: list[int] = []

    def work(index: int, seconds: float) -> Callable[[], None]:
        def run() -> None:
            calls.append(index)
            clock.now += seconds

        return run

    batches = [(work(index, 0.5), 600) for index in range(5)]
    assert measure_throughput(batches, 0.8, CPU) == {"throughput/tokens_per_s": 1200.0, "throughput/tokens": 1200.0}
    assert calls == [0, 1]
    assert measure_throughput(batches[:1], 9.0, CPU)["throughput/tokens"] == 600.0


def test_memory_on_a_cpu() -> None:
    watch = MemoryWatch(CPU, weights_bytes=3 * 2**20)
    block = np.ones(80 * 2**20, np.uint8)
    metrics = watch.metrics()
    assert metrics.keys() == {"memory/weights_mib", "memory/process_peak_mib"}
    assert metrics["memory/weights_mib"] == 3.0
    assert metrics["memory/process_peak_mib"] > 80
    del block


def test_process_peak_starts_anew_with_each_watch() -> None:
    if not MemoryWatch(CPU, 0).peak_is_of_this_run:
        pytest.skip("this system cannot reset a process's peak memory")
    block = np.ones(200 * 2**20, np.uint8)
    high = MemoryWatch(CPU, 0).metrics()["memory/process_peak_mib"]
    del block
    low = MemoryWatch(CPU, 0).metrics()["memory/process_peak_mib"]
    assert 150 < high - low < 250


@pytest.mark.gpu
def test_memory_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    weights = torch.ones(2**20, device=device)
    watch = MemoryWatch(device, weights.nbytes)
    before = torch.cuda.memory_allocated(device)
    extra = torch.ones(16 * 2**20, dtype=torch.uint8, device=device)
    del extra
    metrics = watch.metrics()
    assert metrics["memory/weights_mib"] == 4.0
    assert metrics["memory/peak_allocated_mib"] == before / 2**20 + 16
    assert metrics["memory/peak_above_weights_mib"] == metrics["memory/peak_allocated_mib"] - 4
    assert metrics["memory/peak_reserved_mib"] >= metrics["memory/peak_allocated_mib"]


@pytest.mark.gpu
def test_latency_waits_for_the_gpu() -> None:
    device = torch.device("cuda", 0)
    a = torch.ones(4096, 4096, device=device)

    def score_pair(first: str, second: str) -> float:
        for _ in range(20):
            a @ a
        return 0.0

    latency = measure_latency(score_pair, [("a", "b")] * 5, [("a", "b")], device)
    assert len(latency.device_ms) == 5
    for wall, alone in zip(latency.samples_ms, latency.device_ms, strict=True):
        assert 0 < alone <= wall
