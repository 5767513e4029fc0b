"""Energy of packed batches on an NVIDIA GPU, from the card's own counter (NVML), with the state it ran in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from rwkv_sweep.measure import synchronize

Metrics = dict[str, float]
Tags = dict[str, str]

IDLE_SECONDS = 0.3
"""How long the card rests before its idle power is read; the reading itself is a mean over some of that time."""
LEAST_SECONDS = 0.5
"""The counter moves in steps of up to 0.1 s: over a shorter window they would be a large part of what is read."""
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display clocks",
}
"""Bits of NVML's clock event reasons."""


def measure_energy(
    work: Sequence[tuple[Callable[[], object], int]], tokens_per_pair: float, seconds: float, device: torch.device
) -> tuple[Metrics, Tags]:
    """Run packed batches, over and over, for `seconds` (at least `LEAST_SECONDS`) and read the counter around them.

    Args:
        work: of each batch, what runs it and how many tokens it has; warmed up.
        tokens_per_pair: mean of the data set.
        seconds: of the window; a batch that has begun is finished.
        device: a GPU is measured; for a CPU, and without NVML, a tag says why there is no figure.

    Returns:
        Metrics `energy/*` (docs/metrics.md; the card's whole power, idle power included) and tags `energy.*`.
    """
    if device.type != "cuda":
        return {}, {"energy": "none: counted on NVIDIA GPUs only"}
    try:
        import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except ImportError as error:
        return {}, {"note.energy": f"absent: {error} (pip install 'rwkv-sweep[cuda]')"}
    except Exception as error:  # NVML's own errors, of which the library makes classes as it goes
        return {}, {"note.energy": f"absent: NVML says {error}"}
    return _measured(pynvml, card, work, tokens_per_pair, max(seconds, LEAST_SECONDS), device)


def _measured(
    nvml: Any,
    card: Any,
    work: Sequence[tuple[Callable[[], object], int]],
    tokens_per_pair: float,
    seconds: float,
    device: torch.device,
) -> tuple[Metrics, Tags]:
    synchronize(device)
    time.sleep(IDLE_SECONDS)
    idle_watts = nvml.nvmlDeviceGetPowerUsage(card) / 1e3
    tokens, passed, reasons, clocks = 0, 0.0, 0, []
    before_mj, start = nvml.nvmlDeviceGetTotalEnergyConsumption(card), time.perf_counter()
    while passed < seconds:
        for run, count in work:
            run()
            synchronize(device)
            tokens += count
            passed = time.perf_counter() - start
            if passed >= seconds:
                break
        reasons |= nvml.nvmlDeviceGetCurrentClocksEventReasons(card)
        clocks.append(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))
    joules = (nvml.nvmlDeviceGetTotalEnergyConsumption(card) - before_mj) / 1e3
    passed = time.perf_counter() - start
    metrics = {
        "energy/joules_per_1k_pairs": 1000 * joules * tokens_per_pair / tokens,
        "energy/watts": joules / passed,
        "energy/idle_watts": idle_watts,
        "energy/window_s": passed,
    }
    limit = nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1e3
    tags = {
        "energy.sm_clock_mhz": f"{min(clocks)} to {max(clocks)}",
        "energy.throttle_reasons": reason_names(reasons) or "none",
        "energy.power_limit_w": f"{limit:.0f}",
    }
    return metrics, tags


def reason_names(bits: int) -> str:
    """NVML's clock event reasons in words, joined by commas; a bit without a name as its number."""
    names = [REASONS.get(1 << place, hex(1 << place)) for place in range(bits.bit_length()) if bits >> place & 1]
    return ", ".join(names)
