"""The probe of a run: trained on the vectors of one split, scored on another.

Shapes: P scored pairs, N pairs to train on, S sentences of the split to train on, D dimensions, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.probe import Probe, classified, classify, pair_features, regress, regressed

Vectors = Callable[[Sequence[str]], np.ndarray]
"""Sentences to the run's own vectors [S, D]."""


def measure_probe(
    vectors: Vectors, dataset: DatasetConfig, spec: str, scored: PairSplit, resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics `probe/*` on the scored split, and the tag `probe_fit`.

    Args:
        vectors: of the run.
        spec: the split to train on.
        resamples, seed: of the intervals; the seed is also that of the folds.

    Raises:
        UserError: as `fitting_pairs`.
        NonFiniteError: NaN or infinity in vectors.
    """
    pairs = fitting_pairs(dataset, "measure.probe_fit", spec, [scored])
    train_NF, score_PF = pair_features(vectors(pairs.sentences)), pair_features(vectors(scored.sentences))
    tags = {"probe_fit": pairs.name}
    try:
        if pairs.binary:
            probe = classify(train_NF, pairs.labels, score_PF, seed)
            intervals = classified(probe.predictions, scored.labels, resamples, seed)
        else:
            probe = regress(train_NF, pairs.labels, score_PF)
            intervals = regressed(probe.predictions, scored.labels, resamples, seed)
    except UndefinedError as error:
        return {}, {**tags, "note.probe": f"undefined: {error}"}
    metrics = _of_training(probe, len(pairs.labels))
    for name, interval in intervals.items():
        metrics |= interval.metrics(f"probe/{name}")
    return metrics, tags


def _of_training(probe: Probe, pairs: int) -> dict[str, float]:
    return {
        "probe/fit_pairs": float(pairs),
        "probe/fit_score": probe.cross_validated,
        "probe/regularization": probe.strength,
    }
