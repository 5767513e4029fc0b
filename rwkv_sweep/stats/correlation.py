"""Correlations and rankings in NumPy, the same numbers as SciPy's and scikit-learn's, which take a second to import.

Shapes: P pairs.
"""

from __future__ import annotations

import numpy as np


def average_ranks(values_P: np.ndarray) -> np.ndarray:
    """Rank of each value among all, from 1, float64 [P]; equal ones share the mean of their ranks."""
    order_P = np.argsort(values_P, kind="stable")
    sorted_P = values_P[order_P]
    is_first_P = np.append(True, sorted_P[1:] != sorted_P[:-1])
    group_P = np.empty(len(values_P), dtype=np.intp)
    group_P[order_P] = np.cumsum(is_first_P)
    starts = np.append(np.flatnonzero(is_first_P), len(values_P))
    return np.asarray(0.5 * (starts[group_P] + starts[group_P - 1] + 1))


def spearman(a_P: np.ndarray, b_P: np.ndarray) -> float:
    """Rank correlation of two arrays of finite numbers; NaN where all of either are equal."""
    ranks_P2 = np.column_stack([average_ranks(np.asarray(values_P)) for values_P in (a_P, b_P)])
    if (ranks_P2 == ranks_P2[0]).all(axis=0).any():
        return float("nan")
    return float(np.corrcoef(ranks_P2, rowvar=False)[1, 0])


def pearson(a_P: np.ndarray, b_P: np.ndarray) -> float:
    """Linear correlation of two arrays of finite numbers, neither of them all the same.

    Each is divided by its largest deviation from its mean first, so that no square overflows or vanishes.
    """
    if len(a_P) == 2:
        return float(np.sign(a_P[1] - a_P[0]) * np.sign(b_P[1] - b_P[0]))
    a_P, b_P = (_unit_deviations(values_P) for values_P in (a_P, b_P))
    return float(np.clip(np.vecdot(a_P, b_P), -1.0, 1.0))


def roc_auc(scores_P: np.ndarray, labels_P: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs of a 1 and a 0 in which the 1 has the higher score, ties as half.

    labels_P: 0 and 1, both present.
    """
    positives = labels_P.sum()
    negatives = len(labels_P) - positives
    above = average_ranks(scores_P)[labels_P == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def average_precision(scores_P: np.ndarray, labels_P: np.ndarray) -> float:
    """Mean over the 1s of the precision at their score; equal scores are one threshold, and nothing is interpolated.

    labels_P: 0 and 1, a 1 among them.
    """
    order_P = np.argsort(-scores_P, kind="stable")
    sorted_P = scores_P[order_P]
    thresholds = np.flatnonzero(np.append(sorted_P[1:] != sorted_P[:-1], True))
    hits = np.cumsum(labels_P[order_P])[thresholds]
    precision, recall = hits / (thresholds + 1), hits / hits[-1]
    gained = np.diff(recall[::-1], append=0.0)  # from the lowest threshold up, so that sums round as scikit-learn's
    return float(-np.sum(gained * precision[::-1]))


def _unit_deviations(values_P: np.ndarray) -> np.ndarray:
    deviations_P = values_P - values_P.mean()
    largest = np.abs(deviations_P).max()
    return np.asarray(deviations_P / (largest * np.sqrt(np.square(deviations_P / largest).sum())))
