"""What a configuration costs over final-layer inference: both in one process, interleaved, on the same sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.profiling.interleaved import Work, interleaved
from rwkv_sweep.profiling.memory import MIB, peak_bytes
from rwkv_sweep.stats.intervals import median_ratio_interval, ratio_interval

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
            metrics |= ratio_interval(of, final, RESAMPLES, seed).metrics(name)
            metrics |= median_ratio_interval(of, final, RESAMPLES, seed).metrics(f"{name}_median")
        metrics[f"{prefix}memory_mib"] = (peaks[arm] - peaks["final"]) / MIB
    samples_ms = {f"{kind}_{arm}": values for kind, each in taken.items() for arm, values in each.items()}
    return metrics, samples_ms
