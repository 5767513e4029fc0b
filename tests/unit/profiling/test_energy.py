"""Energy from a counter: the arithmetic, the words, and what is said where there is no counter."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from rwkv_sweep.profiling import energy
from rwkv_sweep.profiling.energy import measure_energy, reason_names


def test_a_cpu_has_none() -> None:
    assert measure_energy([], 50.0, 1.0, torch.device("cpu")) == ({}, {"energy": "none: counted on NVIDIA GPUs only"})


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    metrics, tags = measure_energy([], 50.0, 1.0, torch.device("cuda", 0))
    assert not metrics and "pip install 'rwkv-sweep[cuda]'" in tags["note.energy"]


def test_joules_of_a_thousand_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of 300 W that runs 2,000 tokens a batch of 0.1 s: 30 J a batch, 0.6 J for a pair of 40 tokens."""
    now = [0.0]
    nvml = SimpleNamespace(
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: 300_000 * now[0],
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=0),
        nvmlDeviceGetPowerUsage=lambda _: 70_000,
        nvmlDeviceGetCurrentClocksEventReasons=lambda _: 0x4,
        nvmlDeviceGetClockInfo=lambda *_: 1980,
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 700_000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="x"))
    monkeypatch.setattr(energy, "synchronize", lambda _: None)
    monkeypatch.setattr(energy, "time", SimpleNamespace(sleep=lambda _: None, perf_counter=lambda: now[0]))

    def batch() -> None:
        now[0] += 0.1

    metrics, tags = measure_energy([(batch, 2000)], 40.0, 0.1, torch.device("cuda", 0))
    assert metrics["energy/joules_per_1k_pairs"] == pytest.approx(600)
    assert metrics["energy/watts"] == pytest.approx(300) and metrics["energy/idle_watts"] == 70
    assert 0.45 <= metrics["energy/window_s"] < 0.65
    assert tags["energy.throttle_reasons"] == "power cap" and tags["energy.sm_clock_mhz"] == "1980 to 1980"


def test_idle_power_is_read_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    readings: list[str] = []

    def power(card: str) -> int:
        readings.append(card)
        return 70_000

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUtilizationRates=lambda card: SimpleNamespace(gpu=90 if card == "GPU-two" else 0),
        nvmlDeviceGetPowerUsage=power,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(energy, "time", SimpleNamespace(sleep=rests.append))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="one"))
    energy.read_idle_power(torch.device("cuda", 0))
    assert readings == ["GPU-one"] and not rests, "a card without work needs no rest"
    assert [energy._idle_watts(card) for card in ("one", "two", "one", "two")] == [70.0] * 4
    assert readings == ["GPU-one", "GPU-two"] and rests == [energy.IDLE_SECONDS]


def test_idle_power_that_cannot_be_read_is_left_to_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    energy.read_idle_power(torch.device("cuda", 0))


def test_reasons_in_words() -> None:
    assert reason_names(0) == "" and reason_names(0x24) == "power cap, software thermal"
    assert reason_names(0x1001) == "idle, 0x1000"
