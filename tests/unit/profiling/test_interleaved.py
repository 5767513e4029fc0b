"""Rounds of several configurations: what is warmed up, and when enough were run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy import stats

from rwkv_sweep.profiling import interleaved as module
from rwkv_sweep.profiling.interleaved import StopRule, interleaved, stop_rule
from rwkv_sweep.stats.intervals import ratio_interval

GPU = torch.device("cuda", 0)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock in seconds that only the work moves, and no device to wait for."""
    made = [0.0]
    monkeypatch.setattr(module, "synchronize", lambda _: None)
    monkeypatch.setattr(module.time, "perf_counter", lambda: made[0])
    yield made


def work(now: list[float], seconds: Callable[[], float], runs: list[str], name: str) -> Callable[[], None]:
    def run() -> None:
        runs.append(name)
        now[0] += seconds()

    return run


@pytest.mark.parametrize(("noise", "least", "expected"), [(0.0, 5, 5), (0.0, 9, 9), (0.003, 5, None), (0.2, 5, 40)])
def test_rounds_end_once_the_ratio_is_known(now: list[float], noise: float, least: int, expected: int | None) -> None:
    random = np.random.default_rng(1)
    runs: list[str] = []
    both = {
        "final": work(now, lambda: 1 + noise * random.standard_normal(), runs, "final"),
        "this": work(now, lambda: 2 + noise * random.standard_normal(), runs, "this"),
    }
    rule = StopRule("final", half_width=0.005, least=least)
    samples = interleaved([both] * 40, GPU, np.random.default_rng(0), rule)
    assert len(samples["final"]) == len(samples["this"])
    assert expected is None or len(samples["this"]) == expected
    if expected is None:
        interval = ratio_interval(np.array(samples["this"]), np.array(samples["final"]), 2000, 0)
        assert 5 <= len(samples["this"]) < 40
        assert interval.hi - interval.lo <= 2 * 0.005 * interval.value


@pytest.mark.parametrize("rounds", [5, 8, 11])
def test_the_interval_is_students(rounds: int) -> None:
    random = np.random.default_rng(rounds)
    final, this = random.gamma(50, 1, rounds), random.gamma(60, 1, rounds)
    ratio = this.mean() / final.mean()
    error = np.std(this - ratio * final, ddof=1) / final.mean() / np.sqrt(rounds)
    share = stats.t.ppf(0.975, rounds - 1) * error / ratio
    samples = {"final": list(final), "this": list(this)}
    assert StopRule("final", 1.01 * share, 5).reached(samples)
    assert not StopRule("final", 0.99 * share, 5).reached(samples)


def test_every_configuration_must_be_known(now: list[float]) -> None:
    samples = {"final": [1.0] * 8, "this": [2.0] * 8, "naive": [1.0, 3.0] * 4}
    assert not StopRule("final").reached(samples)
    assert StopRule("final").reached(samples | {"naive": [3.0] * 8})


def test_one_round_of_each_shape_warms_a_gpu(now: list[float]) -> None:
    runs: list[str] = []
    rounds = [{"this": work(now, lambda: 1.0, runs, f"{number}")} for number in range(6)]
    interleaved(rounds, GPU, np.random.default_rng(0), shapes=[32, 48, 32, 64, 48, 32])
    assert sorted(runs[:3]) == ["3", "4", "5"] and runs[3:] == ["0", "1", "2", "3", "4", "5"]
    runs.clear()
    interleaved(rounds, GPU, np.random.default_rng(0))
    assert runs == ["0", "1", "2", "3", "4", "5"] * 2


def test_a_cpu_runs_all_rounds() -> None:
    assert stop_rule("final", torch.device("cpu"), 5) is None
    assert stop_rule("final", GPU, 20) == StopRule("final", least=20)
