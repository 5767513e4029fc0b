"""What a configuration costs over final-layer inference: both in one process, interleaved, on the same sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.profiling.interleaved import LEAST_PAIRS, LEAST_ROUNDS, Work, interleaved, stop_rule
from rwkv_sweep.profiling.memory import MIB, peak_bytes
from rwkv_sweep.stats.intervals import median_ratio_interval, ratio_interval

RESAMPLES = 10_000


def measure_overhead(
    embedders: Mapping[str, Embedder], pairs: Sequence[tuple[str, str]], batch: Tokenized, rounds: int, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Ratios of time and differences of memory against final-layer inference, for single pairs and a full packed batch.

    Args:
        embedders: `final` (final-layer inference), `this` (the configuration) and, where there is one, `naive` (the
            same by the `output_hidden_states` baseline, which keeps every layer's tokens).
        pairs: timed one by one, from text to score.
        batch: tokenized sentences of one full batch.
        rounds: of the batch, at most; on a GPU both end early by `StopRule`.
        seed: of the bootstrap and of the order within a round.

    Returns:
        Metrics `overhead/*` (ratios of mean times, and medians of the rounds' own ratios, each with a 95 % bootstrap
        interval over rounds; MiB of peak memory less that of `final`), and all samples in ms under `<kind>_<name>`.
    """
    device = embedders["final"].encoder.device
    for embedder in embedders.values():
        embedder.prepare_pairs(pairs)
    random = np.random.default_rng(seed)
    single: list[dict[str, Work]] = [
        {name: lambda embedder=embedder, pair=pair: embedder.score_pair(*pair) for name, embedder in embedders.items()}  # type: ignore[misc]
        for pair in pairs
    ]
    whole: dict[str, Work] = {
        name: lambda embedder=embedder: embedder.embed_tokens(batch)  # type: ignore[misc]
        for name, embedder in embedders.items()
    }
    rule, pair_rule = (stop_rule("final", device, least) for least in (LEAST_ROUNDS, LEAST_PAIRS))
    shapes = [embedders["final"].pair_shape(pair) for pair in pairs]
    samples_by_kind = {
        "latency": interleaved(single, device, random, pair_rule, shapes),
        "batch": interleaved([whole] * rounds, device, random, rule),
    }
    peaks = {name: peak_bytes(work, device) for name, work in whole.items()}
    metrics: dict[str, float] = {}
    for name in [name for name in embedders if name != "final"]:
        prefix = "overhead/" if name == "this" else f"overhead/{name}_"
        for kind, samples in samples_by_kind.items():
            compared, final = np.array(samples[name]), np.array(samples["final"])
            key = f"{prefix}{kind}_ratio"
            metrics |= ratio_interval(compared, final, RESAMPLES, seed).metrics(key)
            metrics |= median_ratio_interval(compared, final, RESAMPLES, seed).metrics(f"{key}_median")
        metrics[f"{prefix}memory_mib"] = (peaks[name] - peaks["final"]) / MIB
    samples_ms = {
        f"{kind}_{name}": values for kind, samples in samples_by_kind.items() for name, values in samples.items()
    }
    return metrics, samples_ms
