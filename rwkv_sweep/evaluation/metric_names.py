"""Scores of every split as metrics, under the names that MLflow, result.json and the tables share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.evaluation.metrics import Quality, score


def quality_metrics(
    splits: Sequence[PairSplit], scores: Sequence[np.ndarray], resamples: int, seed: int
) -> dict[str, float]:
    """Metrics `quality/<split>/<metric>` of each split, and `quality/<metric>` of the first.

    Args:
        splits: the pairs with their labels.
        scores: per split one score a pair, higher for more alike.
        resamples, seed: of the bootstrap.
    """
    metrics: dict[str, float] = {}
    for index, (split, split_scores) in enumerate(zip(splits, scores, strict=True)):
        values = _values(score(split_scores, split.labels, resamples, seed))
        metrics |= {f"quality/{metric_name(split.name)}/{name}": value for name, value in values.items()}
        if index == 0:
            metrics |= {f"quality/{name}": value for name, value in values.items()}
    return metrics


def metric_name(split: str) -> str:
    """A split's name with what MLflow allows in a metric: `train[:1000]` becomes `train_0_1000`-like words."""
    kept = split.replace("[:", "_first_").replace(":]", "_on").replace("%", "pct")
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in kept).rstrip("_")


def _values(quality: Quality) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(quality).items() if value is not None}
