"""How well similarity scores agree with labels: correlations, rankings, and the intervals around them.

Shapes: P pairs, D dimensions, R resamples, G groups of equal values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from rwkv_sweep.errors import NonFiniteError

CONFIDENCE = 0.95
_CHUNK_ELEMENTS = 1 << 16  # counts held at a time: 512 KiB stay in a core's cache, three times as fast as all at once


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its 95 % interval."""

    value: float
    lo: float
    hi: float


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
        NonFiniteError: NaN or infinite scores, or all scores equal, so that Spearman is undefined.
    """
    scores, labels = _checked(scores, labels)
    lo, hi = _bounds(bootstrap_spearman([scores], labels, resamples, seed)[0])
    binary = set(labels.tolist()) == {0.0, 1.0}
    f1, accuracy = best_f1_accuracy(scores, labels) if binary else (None, None)
    return Quality(
        spearman=float(spearmanr(scores, labels).statistic),
        spearman_lo=lo,
        spearman_hi=hi,
        pearson=float(pearsonr(scores, labels).statistic),
        average_precision=float(average_precision_score(labels, scores)) if binary else None,
        auc=float(roc_auc_score(labels, scores)) if binary else None,
        f1=f1,
        accuracy=accuracy,
        pairs=len(labels),
    )


def paired_difference(
    scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray, resamples: int, seed: int
) -> Interval:
    """Spearman of `scores_a` less that of `scores_b`, with its bootstrap interval; both on the same resamples.

    All arrays are [P]. What makes a pair hard is common to both and cancels, so this interval is narrower than the two
    single ones suggest.

    Raises:
        NonFiniteError: as `score`.
    """
    a, labels = _checked(scores_a, labels)
    b, labels = _checked(scores_b, labels)
    resampled = bootstrap_spearman([a, b], labels, resamples, seed)
    value = float(spearmanr(a, labels).statistic - spearmanr(b, labels).statistic)
    return Interval(value, *_bounds(resampled[0] - resampled[1]))


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


def bootstrap_spearman(scores: list[np.ndarray], labels: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Exact Spearman of each of K score arrays [P] on each resample of the pairs, [K, R].

    NaN where a resample drew equal scores or equal labels only. All K arrays see the same resamples, which depend on
    P, `resamples` and `seed` alone.
    """
    ranks_K, labels_rank = [_Ranks(values) for values in scores], _Ranks(labels)
    result_KR = np.empty((len(scores), resamples))
    done = 0
    for counts_RP in _resampled_counts(len(labels), resamples, seed):
        rows = slice(done, done + len(counts_RP))
        label_RP, label_R = labels_rank.centred(counts_RP)
        weighted_RP = counts_RP * label_RP
        for ranks, result_R in zip(ranks_K, result_KR, strict=True):
            score_RP, score_R = ranks.centred(counts_RP)
            with np.errstate(invalid="ignore"):
                result_R[rows] = np.einsum("rp,rp->r", weighted_RP, score_RP) / np.sqrt(label_R * score_R)
        done = rows.stop
    return result_KR


class _Ranks:
    """Ranks of fixed values within any resample, without sorting again.

    A resample is a count per pair. Values are sorted once; how many of a resample are less than a given one is then a
    cumulative sum of counts, and c equal ones after n lesser ones share the mid-rank n + (c + 1) / 2.
    """

    def __init__(self, values_P: np.ndarray) -> None:
        _, self.group_P, sizes_G = np.unique(values_P, return_inverse=True, return_counts=True)
        self.order_P = np.argsort(self.group_P, kind="stable")
        self.starts_G = np.cumsum(sizes_G) - sizes_G

    def centred(self, counts_RP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mid-ranks less their mean, in the order of the pairs [R, P], and the resamples' sums of squares [R]."""
        counts_RG = np.add.reduceat(np.take(counts_RP, self.order_P, axis=1), self.starts_G, axis=1)
        ranks_RG = np.cumsum(counts_RG, axis=1)
        ranks_RG -= 0.5 * counts_RG
        ranks_RG -= 0.5 * counts_RP.shape[1]  # mid-ranks of P values average (P + 1) / 2
        squares_R = np.einsum("rg,rg,rg->r", counts_RG, ranks_RG, ranks_RG)
        return np.take(ranks_RG, self.group_P, axis=1), squares_R


def _resampled_counts(pairs: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each pair is drawn in each resample, float64 [r, P], some resamples at a time."""
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK_ELEMENTS // pairs)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn_RP = random.integers(0, pairs, size=(rows, pairs), dtype=np.int64)
        drawn_RP += np.arange(rows)[:, None] * pairs
        yield np.bincount(drawn_RP.ravel(), minlength=rows * pairs).reshape(rows, pairs).astype(np.float64)


def _bounds(values_R: np.ndarray) -> tuple[float, float]:
    """Percentile bounds; resamples without a correlation say nothing of its spread and are left out."""
    tail = (1 - CONFIDENCE) / 2
    defined = values_R[~np.isnan(values_R)]
    if not defined.size:
        raise NonFiniteError(f"none of {len(values_R)} resamples has a Spearman: too few pairs, or too few resamples")
    lo, hi = np.quantile(defined, (tail, 1 - tail))
    return float(lo), float(hi)


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
            raise NonFiniteError(f"{shown}: Spearman is undefined (NaN), no quality can be given")
    return scores, labels
