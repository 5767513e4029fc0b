"""How well similarity scores agree with labels: correlations, rankings, and the intervals around them.

Shapes: P pairs, D dimensions, K score arrays, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.errors import NonFiniteError, UndefinedError
from rwkv_sweep.stats.bootstrap import (
    bootstrap_spearman,
    percentile_bounds,
    rarer_side,
    two_sided_p,
)
from rwkv_sweep.stats.intervals import Difference

FEW_ON_ONE_SIDE = 10
"""A p-value with fewer resamples than this on the rarer side of zero is too rough for a family of comparisons."""


@dataclass(frozen=True)
class Quality:
    """Agreement of the scores of one split with its labels.

    Attributes:
        spearman, spearman_lo, spearman_hi: rank correlation and its 95 % percentile bootstrap interval over pairs.
        pearson: linear correlation.
        average_precision, auc: of ranking the pairs labelled 1 first; None where labels are not 0/1.
        f1, accuracy: the best that any threshold reaches on these very pairs (F1 of label 1). An oracle's threshold: an
            upper bound, not what a threshold chosen beforehand would give. None where labels are not 0/1.
        pairs: P.
    """

    spearman: float
    spearman_lo: float
    spearman_hi: float
    pearson: float
    average_precision: float | None
    auc: float | None
    f1: float | None
    accuracy: float | None
    pairs: int


def cosine(a_PD: np.ndarray, b_PD: np.ndarray) -> np.ndarray:
    """Cosine of each row of `a_PD` with the same row of `b_PD`, float64 [P].

    A zero vector has cosine 0 with everything: the study's convention, where a sentence of unknown words is such a
    vector. Equal vectors give exactly 1, so that equal pairs tie in a ranking.

    Raises:
        ValueError: shapes that differ.
        NonFiniteError: NaN or infinity in a vector.
    """
    if a_PD.shape != b_PD.shape or a_PD.ndim != 2:
        raise ValueError(f"two arrays of the same shape [pairs, dimensions] are needed, not {a_PD.shape}, {b_PD.shape}")
    a, b = a_PD.astype(np.float64), b_PD.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)))
    if bad.size:
        raise NonFiniteError(
            f"the vectors of {bad.size} of {len(a)} pairs hold NaN or infinity, the first is pair {bad[0]}"
        )
    dot, aa, bb = (np.einsum("pd,pd->p", x, y) for x, y in ((a, b), (a, a), (b, b)))
    norm = np.sqrt(aa * bb)  # one root of the product: for equal vectors exactly aa
    return np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0)


def score(scores: np.ndarray, labels: np.ndarray, resamples: int, seed: int) -> Quality:
    """Compare scores [P] with labels [P].

    Args:
        scores: similarity of each pair; any scale, higher means more alike.
        labels: 0/1, or graded.
        resamples, seed: of the bootstrap.

    Raises:
        NonFiniteError: NaN or infinite scores.
        UndefinedError: all scores equal, so that Spearman is undefined, or so few pairs that no resample has one.
    """
    # Takes a second to import, which checks before the first run need not wait for.
    from scipy.stats import pearsonr

    scores, labels = _checked(scores, labels)
    lo, hi = percentile_bounds(bootstrap_spearman([scores], labels, resamples, seed)[0])
    binary = set(labels.tolist()) == {0.0, 1.0}
    f1, accuracy = best_f1_accuracy(scores, labels) if binary else (None, None)
    precision, auc = _ranked(scores, labels) if binary else (None, None)
    return Quality(
        spearman=_spearman(scores, labels),
        spearman_lo=lo,
        spearman_hi=hi,
        pearson=float(pearsonr(_scaled(scores), _scaled(labels)).statistic),
        average_precision=precision,
        auc=auc,
        f1=f1,
        accuracy=accuracy,
        pairs=len(labels),
    )


def paired_difference(
    scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray, resamples: int, seed: int
) -> Difference:
    """Spearman of `scores_a` less that of `scores_b`, with interval and p-value; both on the same resamples.

    All arrays are [P]. What makes a pair hard is common to both and cancels, so this interval is narrower than the two
    single ones suggest.

    Raises:
        NonFiniteError, UndefinedError: as `score`.
    """
    (difference,) = paired_differences(scores_a, [scores_b], labels, resamples, seed)
    return difference


def paired_differences(
    scores: np.ndarray,
    others: Sequence[np.ndarray],
    labels: np.ndarray,
    resamples: int,
    seed: int,
    p_resamples: int = 0,
) -> list[Difference]:
    """Spearman of `scores` [P] less that of each of `others` [P], all on the same resamples of the pairs.

    Args:
        resamples, seed: of the intervals.
        p_resamples: where a difference has (almost) no resample on the other side of zero, its p-value is taken from so
            many resamples in all, so that it can be small enough for a large family of comparisons.

    Raises:
        NonFiniteError: as `score`.
    """
    checked = [_checked(values, labels)[0] for values in (scores, *others)]
    labels = np.asarray(labels, dtype=np.float64)
    own, *theirs = [_spearman(values, labels) for values in checked]
    first_KR = bootstrap_spearman(checked, labels, resamples, seed)
    differences = [first_KR[0] - other_R for other_R in first_KR[1:]]
    bounds = [percentile_bounds(difference_R) for difference_R in differences]
    rare = [index for index, difference_R in enumerate(differences) if rarer_side(difference_R) < FEW_ON_ONE_SIDE]
    if rare and p_resamples > resamples:
        chosen = [checked[0], *(checked[index + 1] for index in rare)]
        more_KR = bootstrap_spearman(chosen, labels, p_resamples - resamples, [seed, resamples])
        for row, index in enumerate(rare, start=1):
            differences[index] = np.append(differences[index], more_KR[0] - more_KR[row])
    return [
        Difference(own - other, lo, hi, two_sided_p(difference_R))
        for other, (lo, hi), difference_R in zip(theirs, bounds, differences, strict=True)
    ]


def best_f1_accuracy(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Highest F1 of label 1, and highest accuracy, over every threshold "score >= t" (also above all scores).

    Args: scores [P], labels [P] of 0 and 1.
    """
    order = np.argsort(-scores, kind="stable")
    taken = np.arange(1, len(scores) + 1)
    hits = np.cumsum(labels[order])
    # A threshold takes all pairs of equal score or none: cut only where the next score differs.
    cut = np.append(scores[order][1:] != scores[order][:-1], True)
    taken, hits = np.append(0, taken[cut]), np.append(0, hits[cut])
    positives = labels.sum()
    right = hits + (len(labels) - positives) - (taken - hits)
    return float((2 * hits / (taken + positives)).max()), float(right.max() / len(labels))


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"scores and labels must be of one shape [pairs], not {scores.shape} and {labels.shape}")
    for name, values in (("scores", scores), ("labels", labels)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise NonFiniteError(
                f"{bad.size} of {len(values)} {name} are NaN or infinite, the first is that of pair {bad[0]}"
            )
        if not len(values) or values.min() == values.max():
            shown = f"all {len(values)} {name} are {values[0]:g}" if len(values) else f"there are no {name}"
            raise UndefinedError(f"{shown}: Spearman is undefined (NaN), no quality can be given")
    return scores, labels


def _scaled(values: np.ndarray) -> np.ndarray:
    """The values times the power of two that puts the largest between 0.5 and 1: no correlation changes, and squares
    and sums of labels such as 5e-324 or 1e308 neither vanish nor overflow. The product is exact."""
    _, exponent = np.frexp(np.abs(values).max())
    return np.ldexp(values, -exponent)


def _spearman(scores: np.ndarray, labels: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(scores, labels).statistic)


def _ranked(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Average precision, and area under the ROC curve, of labels 0 and 1."""
    from sklearn.metrics import average_precision_score, roc_auc_score  # graded labels have no need of it

    return float(average_precision_score(labels, scores)), float(roc_auc_score(labels, scores))
