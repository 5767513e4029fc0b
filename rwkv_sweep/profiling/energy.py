"""Energy of packed batches on an NVIDIA GPU, from the card's own counter (NVML), with the state it ran in."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from rwkv_sweep.profiling.timing import synchronize

Metrics = dict[str, float]
Tags = dict[str, str]

RAMP_SECONDS = 0.3
"""How long the work runs before its energy is counted, after a rest: a card's clocks need that long to come up."""
IDLE_SECONDS = 1.2
"""How long a card that was busy rests before its idle power is read: the reading is a mean over a second."""
LEAST_SECONDS = 0.5
"""The counter moves in steps of up to 0.1 s. The window starts and ends where it moves, and is much longer."""
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


def read_idle_power(device: torch.device) -> None:
    """Read a GPU's idle power before it has work, for all later windows; if that fails, `measure_energy` says why."""
    with contextlib.suppress(Exception):  # NVML's own errors, of which the library makes classes as it goes
        import pynvml

        pynvml.nvmlInit()
        _idle_watts(str(torch.cuda.get_device_properties(device).uuid))


def _measured(
    nvml: Any,
    card: Any,
    work: Sequence[tuple[Callable[[], object], int]],
    tokens_per_pair: float,
    seconds: float,
    device: torch.device,
) -> tuple[Metrics, Tags]:
    synchronize(device)
    start = time.perf_counter()
    idle_watts = _idle_watts(str(torch.cuda.get_device_properties(device).uuid))
    rested = time.perf_counter() - start >= IDLE_SECONDS
    endless = itertools.cycle(work)
    if rested:  # else the batches of the throughput pass have just run
        _run_until(endless, device, RAMP_SECONDS, lambda: True)
    counter = partial(nvml.nvmlDeviceGetTotalEnergyConsumption, card)
    at_start = counter()
    _run_until(endless, device, 0.0, lambda: counter() != at_start)
    before_mj, start = counter(), time.perf_counter()
    tokens, reasons, clocks = 0, 0, []
    after_mj = before_mj
    while True:
        run, count = next(endless)
        run()
        synchronize(device)
        tokens += count
        last_mj, after_mj = after_mj, counter()
        passed = time.perf_counter() - start
        reasons |= nvml.nvmlDeviceGetCurrentClocksEventReasons(card)
        clocks.append(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))
        if passed >= seconds and (after_mj != last_mj or passed >= seconds + LEAST_SECONDS):
            break
    joules = (after_mj - before_mj) / 1e3
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


@functools.cache
def _idle_watts(uuid: str) -> float:
    """Power of a card at rest, read once in a process: it does not depend on the work, and a rest in each job, with the
    time that the clocks then need, takes longer than the measurement."""
    import pynvml

    card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    if pynvml.nvmlDeviceGetUtilizationRates(card).gpu > 0:
        time.sleep(IDLE_SECONDS)
    return float(pynvml.nvmlDeviceGetPowerUsage(card) / 1e3)


def _run_until(
    work: Iterator[tuple[Callable[[], object], int]], device: torch.device, seconds: float, done: Callable[[], bool]
) -> None:
    """Run batches for at least `seconds` and until `done`, which is given `LEAST_SECONDS` more at most."""
    start = time.perf_counter()
    while True:
        next(work)[0]()
        synchronize(device)
        passed = time.perf_counter() - start
        if passed >= seconds and (done() or passed >= seconds + LEAST_SECONDS):
            return


def reason_names(bits: int) -> str:
    """NVML's clock event reasons in words, joined by commas; a bit without a name as its number."""
    names = [REASONS.get(1 << place, hex(1 << place)) for place in range(bits.bit_length()) if bits >> place & 1]
    return ", ".join(names)
