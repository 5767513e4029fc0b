"""Correlations and rankings give the numbers of SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from rwkv_sweep.stats.correlation import average_precision, average_ranks, pearson, roc_auc, spearman

ROUNDING = 4e-16
"""Of sums in another order."""


def drawn(pairs: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (with ties where there are few decimals), labels 0 and 1, and graded labels."""
    random = np.random.default_rng([pairs, decimals])
    labels_P = np.append([0.0, 1.0], random.integers(0, 2, pairs - 2).astype(float))
    return np.append([-9.0, 9.0], random.normal(size=pairs - 2).round(decimals)), labels_P, random.normal(size=pairs)


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("pairs", [2, 3, 20, 401])
def test_the_same_numbers(pairs: int, decimals: int) -> None:
    scores_P, labels_P, graded_P = drawn(pairs, decimals)
    np.testing.assert_array_equal(average_ranks(scores_P), scipy.stats.rankdata(scores_P))
    for other_P in (labels_P, graded_P, -scores_P):
        assert spearman(scores_P, other_P) == scipy.stats.spearmanr(scores_P, other_P).statistic
        expected = scipy.stats.pearsonr(scores_P, other_P).statistic
        assert pearson(scores_P, other_P) == pytest.approx(expected, abs=ROUNDING)
    for ranking_P in (scores_P, -scores_P, graded_P):
        expected = sklearn.metrics.roc_auc_score(labels_P, ranking_P)
        assert roc_auc(ranking_P, labels_P) == pytest.approx(expected, abs=ROUNDING)
        expected = sklearn.metrics.average_precision_score(labels_P, ranking_P)
        assert average_precision(ranking_P, labels_P) == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1.0, 1e200])
def test_no_square_vanishes_or_overflows(scale: float) -> None:
    values_P = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    assert pearson(values_P * scale, values_P) == pytest.approx(1.0, abs=ROUNDING)


def test_equal_values_have_no_rank_correlation() -> None:
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))
