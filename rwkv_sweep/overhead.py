"""What a configuration costs over final-layer inference: both in one process, turn by turn, on the same sentences."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from rwkv_sweep.embedder import Embedder
from rwkv_sweep.evaluate import Interval, median_ratio_interval, ratio_interval
from rwkv_sweep.measure import MIB, frozen_heap, peak_bytes, synchronize
from rwkv_sweep.prompt import Tokenized

Work = Callable[[], object]

WARM_UP_ROUNDS = 3
RESAMPLES = 10_000


def measure_overhead(
    arms: Mapping[str, Embedder], pairs: Sequence[tuple[str, str]], batch: Tokenized, rounds: int, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Ratios of time and differences of memory against the arm `final`, for single pairs and for a full packed batch.

    Args:
        arms: `final` (final-layer inference), `this` (the configuration) and, where there is one, `naive` (the same,
            keeping every layer).
        pairs: timed one by one, from text to score.
        batch: tokenized sentences of one full batch, timed `rounds` times.
        rounds: of the batch.
        seed: of the bootstrap and of the order of the arms within a turn.

    Returns:
        Metrics `overhead/*` (ratios of mean times, and medians of the turns' own ratios, each with a 95 % bootstrap
        interval over turns; MiB of peak memory less that of `final`), and all samples in ms under `<kind>_<arm>`.
    """
    device = arms["final"].encoder.device
    for embedder in arms.values():
        embedder.prepare_pairs(pairs)
    random = np.random.default_rng(seed)
    single: list[dict[str, Work]] = [
        {name: lambda arm=arm, pair=pair: arm.score_pair(*pair) for name, arm in arms.items()}  # type: ignore[misc]
        for pair in pairs
    ]
    whole: dict[str, Work] = {
        name: lambda arm=arm: arm.embed_tokens(batch)  # type: ignore[misc]
        for name, arm in arms.items()
    }
    taken = {"latency": interleaved(single, device, random), "batch": interleaved([whole] * rounds, device, random)}
    peaks = {name: peak_bytes(work, device) for name, work in whole.items()}
    metrics: dict[str, float] = {}
    for arm in [name for name in arms if name != "final"]:
        prefix = "overhead/" if arm == "this" else f"overhead/{arm}_"
        for kind, samples in taken.items():
            of, final = np.array(samples[arm]), np.array(samples["final"])
            name = f"{prefix}{kind}_ratio"
            metrics |= _interval(name, ratio_interval(of, final, RESAMPLES, seed))
            metrics |= _interval(f"{name}_median", median_ratio_interval(of, final, RESAMPLES, seed))
        metrics[f"{prefix}memory_mib"] = (peaks[arm] - peaks["final"]) / MIB
    samples_ms = {f"{kind}_{arm}": values for kind, each in taken.items() for arm, values in each.items()}
    return metrics, samples_ms


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_lo": interval.lo, f"{name}_hi": interval.hi}


def interleaved(
    turns: Sequence[Mapping[str, Work]], device: torch.device, random: np.random.Generator
) -> dict[str, list[float]]:
    """Milliseconds of each arm, one sample a turn; within a turn the arms run in random order."""
    for turn in turns[:WARM_UP_ROUNDS]:
        for work in turn.values():
            work()
    samples: dict[str, list[float]] = {name: [] for name in turns[0]}
    with frozen_heap():
        for turn in turns:
            for name in random.permutation(list(turn)):
                synchronize(device)
                start = time.perf_counter()
                turn[name]()
                synchronize(device)
                samples[name].append((time.perf_counter() - start) * 1e3)
    return samples
