"""Resampling of pairs: Spearman and ratios on each resample, and the bounds and p-values read from them.

Shapes: P pairs, R resamples, K score arrays, G groups of equal values, N blocks of B rows each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from rwkv_sweep.errors import UndefinedError

CONFIDENCE = 0.95
MOST_DRAWN = 20_000_000
"""Pairs drawn at most for the small p-values of one run: a second of one core with four arrays of scores."""
# Counts at a time: 512 KiB stay in a core's cache, three times as fast as all at once.
_CHUNK_ELEMENTS = 1 << 16


Seed = int | Sequence[int]


def bootstrap_spearman(scores: list[np.ndarray], labels: np.ndarray, resamples: int, seed: Seed) -> np.ndarray:
    """Exact Spearman of each of K score arrays [P] on each resample of the pairs, [K, R].

    NaN where a resample drew equal scores or equal labels only. All K arrays see the same resamples, which depend on
    P, `resamples` and `seed` alone.
    """
    ranks_K, labels_rank = [_Ranks(values) for values in scores], _Ranks(labels)
    result_KR = np.empty((len(scores), resamples))
    done = 0
    for counts_RP in resampled_counts(len(labels), resamples, seed):
        counts_PR = np.ascontiguousarray(counts_RP.T)  # so that every step adds or copies whole rows
        label_GR, label_R = labels_rank.centred(counts_PR)
        weighted_PR = counts_PR * label_GR[labels_rank.group_P]
        part = slice(done, done + len(counts_RP))
        for ranks, result_R in zip(ranks_K, result_KR, strict=True):
            score_GR, score_R = ranks.centred(counts_PR)
            with np.errstate(invalid="ignore"):
                products_R = np.einsum("gr,gr->r", ranks.grouped(weighted_PR), score_GR)
                result_R[part] = products_R / np.sqrt(label_R * score_R)
        done = part.stop
    return result_KR


def bootstrap_ratio(a_P: np.ndarray, b_P: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Mean of `a_P` over mean of `b_P` on each resample of the pairs, [R]: both means are of the same pairs."""
    return np.concatenate([(n_RP @ a_P) / (n_RP @ b_P) for n_RP in resampled_counts(len(a_P), resamples, seed)])


def bootstrap_median(values_P: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Median of each resample of `values_P`, float64 [R]."""
    sorted_P, order_P = np.sort(values_P), np.argsort(values_P, kind="stable")
    middle = (len(values_P) + 1) // 2, len(values_P) // 2 + 1  # the same place where P is odd
    medians = []
    for counts_RP in resampled_counts(len(values_P), resamples, seed):
        up_to_RP = np.cumsum(counts_RP[:, order_P], axis=1)
        places = [(up_to_RP >= rank).argmax(axis=1) for rank in middle]
        medians.append((sorted_P[places[0]] + sorted_P[places[1]]) / 2)
    return np.concatenate(medians)


def percentile_bounds(values_R: np.ndarray) -> tuple[float, float]:
    """Bounds of the 95 % percentile interval; a resample without a value (NaN) is left out.

    Raises:
        UndefinedError: no resample has a value.
    """
    tail = (1 - CONFIDENCE) / 2
    lo, hi = np.quantile(_defined(values_R), (tail, 1 - tail))
    return float(lo), float(hi)


def two_sided_p(differences_R: np.ndarray) -> float:
    """p-value of "no difference": twice the share of resamples on the rarer side of zero (zero is on both), at most 1.

    The level at which the percentile interval would just touch zero (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, section 15.4). Shares are (count + 1) / (R + 1) (Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, equation 4.11): finitely many resamples never give p = 0, and none below `least_p(R)`.

    Raises:
        UndefinedError: as `percentile_bounds`.
    """
    return float(min(1.0, 2 * (rarer_side(differences_R) + 1) / (len(_defined(differences_R)) + 1)))


def rarer_side(differences_R: np.ndarray) -> int:
    """How many resamples are on the rarer side of zero; zero is on both.

    Raises:
        NonFiniteError: as `percentile_bounds`.
    """
    defined = _defined(differences_R)
    return int(min((defined <= 0).sum(), (defined >= 0).sum()))


def least_p(resamples: int) -> float:
    """The smallest p-value that `two_sided_p` can give with so many resamples."""
    return min(1.0, 2 / (resamples + 1))


def resamples_for(comparisons: int, pairs: int, least: int, alpha: float) -> int:
    """Resamples with which a p-value can be small enough for a family of so many comparisons.

    Twice as many as make the smallest p-value, multiplied by `comparisons`, just equal to `alpha`: one stray resample
    then does not decide. At least `least`; at most so many that drawing them takes a second or so.
    """
    needed = math.ceil(2 * 2 * comparisons / alpha)
    return max(least, min(needed, MOST_DRAWN // max(1, pairs)))


class _Ranks:
    """Ranks of fixed values within any resample, without sorting again.

    A resample is a count per pair. Values are sorted once; how many of a resample are less than a given one is then a
    cumulative sum of counts, and c equal ones after n lesser ones share the mid-rank n + (c + 1) / 2.
    """

    def __init__(self, values_P: np.ndarray) -> None:
        _, self.group_P, sizes_G = np.unique(values_P, return_inverse=True, return_counts=True)
        self._order_P = np.argsort(self.group_P, kind="stable")
        self._starts_G = np.cumsum(sizes_G) - sizes_G

    def grouped(self, weights_PR: np.ndarray) -> np.ndarray:
        """Sums over the pairs of each value, [G, R], the smallest value first."""
        sorted_PR = weights_PR.take(self._order_P, axis=0)
        if len(self._starts_G) == len(sorted_PR):
            return sorted_PR
        return np.add.reduceat(sorted_PR, self._starts_G, axis=0)

    def centred(self, counts_PR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mid-ranks of the values less their mean, [G, R], and the resamples' sums of squares [R]."""
        counts_GR = self.grouped(counts_PR)
        ranks_GR = _running_sums(counts_GR)
        scratch_GR = 0.5 * counts_GR
        ranks_GR -= scratch_GR
        ranks_GR -= 0.5 * len(counts_PR)  # mid-ranks of P values average (P + 1) / 2
        np.multiply(counts_GR, ranks_GR, out=scratch_GR)
        return ranks_GR, np.einsum("gr,gr->r", scratch_GR, ranks_GR)


def _running_sums(values_GR: np.ndarray) -> np.ndarray:
    """Cumulative sums down the rows; `np.cumsum` adds number by number, which takes four times as long.

    In blocks of B rows: all blocks at once, row by row, then each block is raised by what precedes it.
    """
    rows, resamples = values_GR.shape
    block = max(1, int(rows**0.5))
    whole = rows - rows % block
    sums_GR = values_GR.copy()
    blocks_NBR = sums_GR[:whole].reshape(-1, block, resamples)
    for row in range(1, block):
        blocks_NBR[:, row] += blocks_NBR[:, row - 1]
    for number in range(1, len(blocks_NBR)):
        blocks_NBR[number] += blocks_NBR[number - 1, -1]
    for row in range(whole, rows):
        sums_GR[row] += sums_GR[row - 1]
    return sums_GR


def resampled_counts(pairs: int, resamples: int, seed: Seed) -> Iterator[np.ndarray]:
    """How often each pair is drawn in each resample, float64 [r, P], some resamples at a time."""
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK_ELEMENTS // pairs)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn_RP = random.integers(0, pairs, size=(rows, pairs), dtype=np.int64)
        drawn_RP += np.arange(rows)[:, None] * pairs
        yield np.bincount(drawn_RP.ravel(), minlength=rows * pairs).reshape(rows, pairs).astype(np.float64)


def _defined(values_R: np.ndarray) -> np.ndarray:
    defined = values_R[~np.isnan(values_R)]
    if not defined.size:
        raise UndefinedError(f"none of {len(values_R)} resamples has a value: too few pairs, or too few resamples")
    return defined
