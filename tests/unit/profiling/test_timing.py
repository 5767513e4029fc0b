"""Latency, throughput and memory, against clocks that are made up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from rwkv_sweep.profiling.latency import Latency, measure_latency
from rwkv_sweep.profiling.memory import MemoryWatch
from rwkv_sweep.profiling.throughput import (
    LIMIT,
    PASS_SECONDS,
    SETTLED_PASSES,
    is_settled,
    measure_throughput,
    steady_from,
)
from rwkv_sweep.profiling.timing import CPU_SIZE, MachineReference

CPU = torch.device("cpu")


class Clock:
    """A clock that moves only when a test moves it."""

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
    metrics = latency.metrics()
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert metrics["latency/p50_ms_lo"] <= metrics["latency/p50_ms"] <= metrics["latency/p50_ms_hi"]


def test_device_time_stands_beside_wall_time() -> None:
    metrics = Latency((4.0, 2.0), (1.0, 3.0, 2.5)).metrics()
    assert metrics["latency/device_p50_ms"] == 2.5 and metrics["latency/mean_ms"] == 3.0


def rates_of(clock: Clock, seconds: list[float], tokens: int = 600) -> tuple[Callable[[], None], int]:
    """A batch whose runs take these seconds one after another, the last of them for ever."""
    pending = list(seconds)

    def run() -> None:
        clock.now += pending.pop(0) if len(pending) > 1 else pending[0]

    return run, tokens


def test_throughput_ends_when_the_rate_has_settled(clock: Clock) -> None:
    """A first job: two slow passes, then 0.2 s each."""
    throughput = measure_throughput([rates_of(clock, [10.0, 0.4, 0.2])], 0.5, CPU)
    assert throughput.settled and throughput.tags() == {}
    metrics = throughput.metrics()
    assert metrics["throughput/tokens_per_s"] == pytest.approx(3000)
    assert metrics["throughput/tokens_per_s_lo"] == metrics["throughput/tokens_per_s_hi"] == pytest.approx(3000)
    assert metrics["throughput/passes"] == 3 and metrics["throughput/tokens"] == 5 * 600
    assert metrics["throughput/settled"] == 1.0 and "throughput/ratio" not in metrics


def test_passes_go_on_for_the_seconds_asked_for(clock: Clock) -> None:
    throughput = measure_throughput([rates_of(clock, [0.2])], 1.9, CPU)
    assert len(throughput.rates) == 10 and throughput.steady == 0


def test_short_batches_are_repeated_until_a_clock_can_tell(clock: Clock) -> None:
    throughput = measure_throughput([rates_of(clock, [0.001], 5), rates_of(clock, [0.003], 11)], 0.5, CPU)
    assert throughput.metrics()["throughput/tokens_per_s"] == pytest.approx(4000)
    assert throughput.tokens / len(throughput.rates) >= 16 * PASS_SECONDS / 0.004


def test_a_rate_that_does_not_settle_is_marked(clock: Clock) -> None:
    seconds = [0.2 + 0.1 * (index % 2) for index in range(40)]
    throughput = measure_throughput([rates_of(clock, seconds)], 0.5, CPU)
    assert not throughput.settled and len(throughput.rates) >= SETTLED_PASSES
    assert sum(600 / rate for rate in throughput.rates) < LIMIT * 0.5 + 0.3
    metrics = throughput.metrics()
    assert metrics["throughput/settled"] == 0.0
    assert metrics["throughput/tokens_per_s_lo"] == pytest.approx(2000)
    assert metrics["throughput/tokens_per_s_hi"] == pytest.approx(3000)
    assert "2000 to 3000 tokens/s" in throughput.tags()["note.throughput"]


@pytest.mark.parametrize("slowdown", [1.0, 1.7, 3.0])
def test_a_machine_that_slows_down_leaves_the_ratio_alone(clock: Clock, slowdown: float) -> None:
    class Slow:
        def sample(self) -> float:
            return 100.0 / slowdown

    batch = rates_of(clock, [0.2 * slowdown])
    metrics = measure_throughput([batch], 0.5, CPU, Slow()).metrics()  # type: ignore[arg-type]
    assert metrics["throughput/tokens_per_s"] == pytest.approx(3000 / slowdown)
    assert metrics["throughput/ratio"] == pytest.approx(30)
    assert metrics["throughput/ratio_lo"] == metrics["throughput/ratio_hi"] == pytest.approx(30)


def test_the_settled_passes_before_the_last_three_count_too() -> None:
    assert steady_from([10.0, 50.0, 99.0, 100.0, 101.0, 100.0]) == 2
    assert steady_from([100.0, 100.0, 100.0]) == 0
    assert is_settled([98.0, 100.0, 102.0]) and not is_settled([90.0, 100.0, 102.0])


def test_throughput_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        measure_throughput([], 1.0, CPU)


def test_latency_is_held_against_the_machine(clock: Clock) -> None:
    """The machine halves its speed in the middle: milliseconds double, the ratio does not."""
    slow = [1.0]

    class Machine:
        samples = 0

        def sample(self) -> float:
            self.samples += 1
            slow[0] = 1.0 if self.samples <= 2 else 2.0
            return 50.0 / slow[0]

    def score_pair(first: str, second: str) -> float:
        clock.now += 0.01 * slow[0]
        return 0.0

    pairs = [(str(index), "b") for index in range(8)]
    latency = measure_latency(score_pair, pairs, pairs[:1], CPU, Machine())  # type: ignore[arg-type]
    assert len(latency.samples_ms) == len(latency.reference) == 8
    assert latency.metrics()["latency/ratio"] == pytest.approx(0.5)
    assert max(latency.samples_ms) == pytest.approx(20) and min(latency.samples_ms) == pytest.approx(10)


def test_the_reference_is_the_rate_of_a_matrix_product(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch.mm

    def timed(*matrices: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        clock.now += 0.002
        return multiply(*matrices, out=out)

    monkeypatch.setattr(torch, "mm", timed)
    reference = MachineReference(CPU)
    assert reference.sample() == pytest.approx(2e-9 * CPU_SIZE**3 / 0.002)
    assert reference.name == "torch.mm fp32 512x512x512"


def test_memory_on_a_cpu() -> None:
    watch = MemoryWatch(CPU, weights_bytes=3 * 2**20)
    block = np.ones(80 * 2**20, np.uint8)
    metrics = watch.metrics()
    assert metrics.keys() == {"memory/weights_mib", "memory/process_peak_mib"}
    assert metrics["memory/weights_mib"] == 3.0
    assert metrics["memory/process_peak_mib"] > 80
    del block


def test_what_comes_before_the_restart_or_after_the_stop_is_no_peak() -> None:
    watch = MemoryWatch(CPU, 0)
    if not watch.peak_is_of_this_run:
        pytest.skip("this system cannot reset a process's peak memory")
    block = np.ones(300 * 2**20, np.uint8)
    del block
    watch.restart()
    watch.stop()
    low = watch.metrics()["memory/process_peak_mib"]
    block = np.ones(300 * 2**20, np.uint8)
    assert watch.metrics()["memory/process_peak_mib"] == low
    watch.restart()
    assert watch.metrics()["memory/process_peak_mib"] > low + 150
    del block


def test_process_peak_starts_anew_with_each_watch() -> None:
    if not MemoryWatch(CPU, 0).peak_is_of_this_run:
        pytest.skip("this system cannot reset a process's peak memory")
    block = np.ones(200 * 2**20, np.uint8)
    high = MemoryWatch(CPU, 0).metrics()["memory/process_peak_mib"]
    del block
    low = MemoryWatch(CPU, 0).metrics()["memory/process_peak_mib"]
    assert 150 < high - low < 250


def test_what_lies_beside_the_model_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    mib = 2**20
    for name, value in {"max_memory_allocated": 70 * mib, "max_memory_reserved": 80 * mib}.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    for name in ("empty_cache", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    metrics = MemoryWatch(torch.device("cuda", 0), weights_bytes=10 * mib, others_bytes=30 * mib).metrics()
    assert metrics["memory/peak_allocated_mib"] == 40 and metrics["memory/peak_reserved_mib"] == 50
    assert metrics["memory/peak_above_weights_mib"] == 30


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
