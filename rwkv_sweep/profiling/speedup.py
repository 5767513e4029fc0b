"""How fast a precision is beside fp32: both models in one process, interleaved, on the same packed batch and pairs.

Runs of a sweep are timed one after another, so their tokens/s also tell of what else the machine did meanwhile. Here
that is common to both and cancels in the ratio; two precisions are compared by their ratios to fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.fp32_reference import ResidentReference
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.models.common.interface import LoadedModel
from rwkv_sweep.profiling.interleaved import LEAST_PAIRS, LEAST_ROUNDS, Work, interleaved, stop_rule
from rwkv_sweep.stats.intervals import ratio_interval

RESAMPLES = 10_000
PAIRS_PER_ROUND = 4
"""Single pairs for each round of the batch: a pair takes a small part of its time."""


def measure_speedup(
    embedder: Embedder,
    model: ModelConfig,
    pairs: Sequence[tuple[str, str]],
    batch: Tokenized,
    rounds: int,
    seed: int,
    reference: ResidentReference | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Time of fp32 over that of this precision, for the batch and for single pairs: above 1 this precision is faster.

    Args:
        embedder: of this precision.
        model: the one it has loaded.
        pairs: timed one by one, as many as there are rounds for, from the first on again where they are fewer.
        batch: tokenized sentences of one packed batch.
        rounds: of the batch, at most, see `StopRule`; of the pairs `PAIRS_PER_ROUND` times as many.
        seed: of the bootstrap and of the order within a round.
        reference: where the fp32 weights may be already.

    Returns:
        Metrics `speedup/*` (ratios of mean times with 95 % bootstrap intervals over rounds), and a tag that says why
        there are none: the fp32 weights do not fit into memory.
    """
    encoder = embedder.encoder
    reference = reference or ResidentReference()
    reason = reference.why_not(encoder.loaded.model, encoder.device)
    if reason is not None:
        return {}, {"note.speedup": f"absent: {reason}"}
    timed = [pairs[index % len(pairs)] for index in range(rounds * PAIRS_PER_ROUND)]
    with reference.loaded(model, encoder.device) as loaded:
        taken = _interleaved(embedder, loaded, timed, batch, rounds, seed)
    metrics: dict[str, float] = {}
    for kind, times in taken.items():
        ratio = ratio_interval(np.array(times["fp32"]), np.array(times["this"]), RESAMPLES, seed)
        name = f"speedup/{kind}over_fp32"
        metrics |= ratio.metrics(name)
    return metrics, {}


def _interleaved(
    embedder: Embedder, loaded: LoadedModel, pairs: Sequence[tuple[str, str]], batch: Tokenized, rounds: int, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of `this` and `fp32`, for the batch and for the pairs. loaded: the model in fp32."""
    encoder = embedder.encoder
    embedders = {"this": embedder, "fp32": replace(embedder, encoder=replace(encoder, loaded=loaded))}
    for compared in embedders.values():
        compared.prepare_pairs(pairs)
    whole: dict[str, Work] = {
        name: lambda compared=compared: compared.embed_tokens(batch)  # type: ignore[misc]
        for name, compared in embedders.items()
    }
    single: list[dict[str, Work]] = [
        {name: lambda compared=compared, pair=pair: compared.score_pair(*pair) for name, compared in embedders.items()}  # type: ignore[misc]
        for pair in pairs
    ]
    random = np.random.default_rng(seed)
    rule, pair_rule = (stop_rule("fp32", encoder.device, least) for least in (LEAST_ROUNDS, LEAST_PAIRS))
    shapes = [embedder.pair_shape(pair) for pair in pairs]
    return {
        "": interleaved([whole] * rounds, encoder.device, random, rule),
        "pair_": interleaved(single, encoder.device, random, pair_rule, shapes),
    }
