"""How close a precision's vectors and scores come to those of fp32, on the same sentences.

The fp32 vectors come from the store, or from one forward of a second model, which is let go before anything is timed.
Shapes: L layers, S sentences, P pairs, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.config.layer_spec import layer_name
from rwkv_sweep.evaluation.metrics import cosine, paired_difference


@dataclass(frozen=True)
class Embedded:
    """What one precision gave for a split: pooled vectors of each layer, sentence vectors, scores of the pairs."""

    layers_LSD: np.ndarray
    sentences_SD: np.ndarray
    scores_P: np.ndarray


def parity_metrics(
    ours: Embedded,
    reference: Embedded,
    labels_P: np.ndarray | None,
    layers: Sequence[int],
    num_blocks: int,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Metrics `parity/*`, see docs/metrics.md.

    Args:
        ours, reference: of the same sentences and layers.
        labels_P: None where the weights are random, and Spearman means nothing.
        layers, num_blocks: for their names.
        resamples, seed: of the bootstrap.

    Raises:
        NonFiniteError: NaN or infinity in vectors or scores.
        ValueError: shapes that differ.
    """
    metrics = _cosines("parity", ours.sentences_SD, reference.sentences_SD)
    for index, layer in enumerate(layers):
        prefix = f"parity/layer/{layer_name(layer, num_blocks)}"
        metrics |= _cosines(prefix, ours.layers_LSD[index], reference.layers_LSD[index])
    if min(np.ptp(ours.scores_P), np.ptp(reference.scores_P)) > 0:
        from scipy.stats import spearmanr  # takes a second, and is needed late

        metrics["parity/rank_agreement"] = float(spearmanr(ours.scores_P, reference.scores_P).statistic)
    if labels_P is not None:
        delta = paired_difference(ours.scores_P, reference.scores_P, labels_P, resamples, seed)
        metrics |= delta.metrics("parity/spearman_delta")
    return metrics


def _cosines(prefix: str, ours_SD: np.ndarray, reference_SD: np.ndarray) -> dict[str, float]:
    cosines_S = cosine(ours_SD, reference_SD)
    return {
        f"{prefix}/cosine_mean": float(cosines_S.mean()),
        f"{prefix}/cosine_p01": float(np.percentile(cosines_S, 1)),
    }
