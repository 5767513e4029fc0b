"""A probe: how much of the label a linear model reads from the two vectors of a pair, trained on other pairs.

The protocol of SentEval (Conneau and Kiela 2018, arXiv 1803.05449) for pairs such as MRPC's: features |u - v| and
u * v, logistic regression, regularization by cross-validation on the pairs trained on; for graded labels ridge
regression.

Shapes: P scored pairs, N pairs to train on, S sentences, D dimensions, F = 2 D features, K figures, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.stats.bootstrap import bootstrap_spearman, percentile_bounds, resampled_counts
from rwkv_sweep.stats.intervals import Interval

FOLDS = 10
INVERSE_STRENGTHS = tuple(10.0**power for power in range(-5, 2))
"""C of the logistic regression, of standardized features."""
STRENGTHS = tuple(10.0**power for power in range(0, 7))
"""alpha of the ridge regression."""
MOST_ITERATIONS = 2000


@dataclass(frozen=True)
class Probe:
    """What a trained probe says of other pairs.

    Attributes:
        predictions: [P], classes 0 and 1, or values on the scale of the labels.
        strength: C or alpha, as chosen.
        cross_validated: mean accuracy over the folds of the pairs trained on, or (graded) R^2 of leaving one out.
    """

    predictions: np.ndarray
    strength: float
    cross_validated: float


def pair_features(vectors_SD: np.ndarray) -> np.ndarray:
    """|u - v| and u * v of each pair, [P, 2 D]; u are the first half of the vectors, v the second."""
    pairs = len(vectors_SD) // 2
    first_PD, second_PD = np.asarray(vectors_SD[:pairs], np.float64), np.asarray(vectors_SD[pairs:], np.float64)
    return np.concatenate([np.abs(first_PD - second_PD), first_PD * second_PD], axis=1)


def classify(train_NF: np.ndarray, labels_N: np.ndarray, score_PF: np.ndarray, seed: int) -> Probe:
    """Logistic regression on labels 0 and 1; C is that of the best mean accuracy over ten stratified folds (as many as
    the rarer class has pairs, where these are fewer), the smallest such C on a tie.

    Args:
        seed: of the folds.

    Raises:
        ValueError: a class with fewer than two pairs.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    rarer = int(np.bincount(labels_N.astype(int), minlength=2).min())
    train_NF, score_PF = _prepared(train_NF, score_PF)
    folds = StratifiedKFold(min(FOLDS, rarer), shuffle=True, random_state=seed)
    search = GridSearchCV(
        LogisticRegression(max_iter=MOST_ITERATIONS), {"C": list(INVERSE_STRENGTHS)}, cv=folds, scoring="accuracy"
    )
    search.fit(train_NF, labels_N.astype(int))
    return Probe(search.predict(score_PF).astype(np.float64), search.best_params_["C"], float(search.best_score_))


def regress(train_NF: np.ndarray, labels_N: np.ndarray, score_PF: np.ndarray) -> Probe:
    """Ridge regression on graded labels; alpha is that of the smallest squared error of leaving each pair out."""
    from sklearn.linear_model import RidgeCV

    train_NF, score_PF = _prepared(train_NF, score_PF)
    ridge = RidgeCV(alphas=STRENGTHS).fit(train_NF, labels_N)
    explained = 1 + ridge.best_score_ / float(labels_N.var())
    return Probe(ridge.predict(score_PF), float(ridge.alpha_), explained)


def classified(predictions_P: np.ndarray, labels_P: np.ndarray, resamples: int, seed: int) -> dict[str, Interval]:
    """`accuracy`, and `f1` of label 1 (0 where neither predicted nor there), with 95 % bootstrap intervals."""
    right_P = (predictions_P == labels_P).astype(np.float64)
    hit_P = ((predictions_P == 1) & (labels_P == 1)).astype(np.float64)
    both_P = (predictions_P == 1).astype(np.float64) + (labels_P == 1)

    def figures(counts_RP: np.ndarray) -> np.ndarray:
        both_R = counts_RP @ both_P
        f1_R = np.divide(2 * (counts_RP @ hit_P), both_R, out=np.zeros(len(counts_RP)), where=both_R > 0)
        return np.stack([counts_RP @ right_P / counts_RP.shape[1], f1_R])

    return _intervals(("accuracy", "f1"), figures, len(labels_P), resamples, seed)


def regressed(predictions_P: np.ndarray, labels_P: np.ndarray, resamples: int, seed: int) -> dict[str, Interval]:
    """`pearson` and `spearman` of predictions and labels, with 95 % bootstrap intervals.

    Raises:
        UndefinedError: all predictions are equal.
    """
    from scipy.stats import spearmanr

    if np.ptp(predictions_P) == 0:
        raise UndefinedError("the probe gives every pair the same value: no correlation exists")
    x_P, y_P = predictions_P - predictions_P.mean(), labels_P - labels_P.mean()

    def pearson(counts_RP: np.ndarray) -> np.ndarray:
        count = counts_RP.shape[1]
        mean_x, mean_y = counts_RP @ x_P / count, counts_RP @ y_P / count
        covariance = counts_RP @ (x_P * y_P) / count - mean_x * mean_y
        variances = (counts_RP @ x_P**2 / count - mean_x**2, counts_RP @ y_P**2 / count - mean_y**2)
        root = np.sqrt(np.maximum(variances[0], 0) * np.maximum(variances[1], 0))
        return np.divide(covariance, root, out=np.full(len(counts_RP), np.nan), where=root > 0)[None]

    intervals = _intervals(("pearson",), pearson, len(labels_P), resamples, seed)
    bounds = percentile_bounds(bootstrap_spearman([predictions_P], labels_P, resamples, seed)[0])
    intervals["spearman"] = Interval(float(spearmanr(predictions_P, labels_P).statistic), *bounds)
    return intervals


def _intervals(
    names: tuple[str, ...], figures: Callable[[np.ndarray], np.ndarray], pairs: int, resamples: int, seed: int
) -> dict[str, Interval]:
    """figures: values [K, R] of K names from how often each pair was drawn in each resample."""
    (own_K,) = figures(np.ones((1, pairs))).T
    resampled_KR = np.concatenate(
        [figures(counts_RP) for counts_RP in resampled_counts(pairs, resamples, seed)], axis=1
    )
    return {
        name: Interval(float(own), *percentile_bounds(values_R))
        for name, own, values_R in zip(names, own_K, resampled_KR, strict=True)
    }


def _prepared(train_NF: np.ndarray, score_PF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features standardized by those trained on, in as few dimensions as tell them apart.

    With more features than pairs both are turned into the span of the latter: a linear model whose weights are
    penalized by their length has none outside of it, so that nothing changes but the time.
    """
    mean_F, scale_F = train_NF.mean(axis=0), train_NF.std(axis=0)
    scale_F = np.where(scale_F > 0, scale_F, 1.0)
    train_NF, score_PF = (train_NF - mean_F) / scale_F, (score_PF - mean_F) / scale_F
    if train_NF.shape[1] <= len(train_NF):
        return train_NF, score_PF
    basis_FN = np.linalg.qr(train_NF.T)[0]
    return train_NF @ basis_FN, score_PF @ basis_FN
