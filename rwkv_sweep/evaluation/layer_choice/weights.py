"""Weights of layers fitted to labelled pairs: as few numbers as layers, by a ranking loss, regularized.

The loss is that of RankNet (Burges et al. 2005) on cosines: the mean of log(1 + exp(-b (s_i - s_j))) over pairs i that
are labelled higher than j, with one scale b > 0 that is fitted too. Weights are 0 or more; the squared distance from
equal weights, times a strength that cross-validation chooses, is added. Few strengths, few folds: the weights are few.

Shapes: L layers, P pairs, C comparisons of two pairs, F folds, R strengths; 3 as in `pair_products`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.layer_choice.pair_products import PairProducts, cosines_and_factors, weighted_cosines

STRENGTHS = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Of the regularization, the strongest first: with 1 the weights stay almost equal."""
FOLDS = 5
MOST_COMPARISONS = 20_000
"""Of more comparisons of two pairs so many are drawn at random."""
MOST_ITERATIONS = 100


@dataclass(frozen=True)
class LearnedWeights:
    """Fitted weights of layers.

    Attributes:
        weights_L: 0 or more, summing to 1.
        strength: of the regularization, as chosen.
        cross_validated: Spearman on pairs that the weights were not fitted to, mean over the folds.
    """

    weights_L: np.ndarray
    strength: float
    cross_validated: float


def learn_weights(products: PairProducts, labels_P: np.ndarray, seed: int) -> LearnedWeights:
    """Fit weights to pairs; the strength is the one with the highest mean Spearman on the folds left out, the strongest
    such one on a tie.

    Args:
        seed: of the folds, and of the comparisons drawn.

    Raises:
        UndefinedError: too few pairs, or all of the same cosine: no fold has a Spearman.
    """
    fold_P = _folds(labels_P, seed)
    spearman_FR = np.stack([_on_fold(products, labels_P, fold_P == fold, seed) for fold in range(FOLDS)])
    defined = ~np.isnan(spearman_FR).any(axis=1)
    if not defined.any():
        raise UndefinedError(f"the {len(labels_P)} pairs to fit weights on are too few, or their cosines all equal")
    spearman_R = spearman_FR[defined].mean(axis=0)
    best = int(spearman_R.argmax())
    weights_L = fit_weights(products, labels_P, STRENGTHS[best], seed)
    return LearnedWeights(weights_L, STRENGTHS[best], float(spearman_R[best]))


def _on_fold(products: PairProducts, labels_P: np.ndarray, held_out_P: np.ndarray, seed: int) -> np.ndarray:
    """Spearman on the pairs held out, of each of `STRENGTHS`; NaN where it does not exist."""
    spearman_R = np.full(len(STRENGTHS), np.nan)
    comparisons_C2 = drawn_comparisons(labels_P, np.flatnonzero(~held_out_P), seed)
    labels = labels_P[held_out_P]
    if not len(comparisons_C2) or len(labels) < 2 or np.ptp(labels) == 0:
        return spearman_R
    from scipy.stats import spearmanr

    left_out, parameters = products.rows(held_out_P), _start(products)
    for number, strength in enumerate(STRENGTHS):
        parameters = _minimum(products, comparisons_C2, strength, parameters)
        cosines = weighted_cosines(left_out, parameters[:-1])
        if np.ptp(cosines) > 0:
            spearman_R[number] = float(spearmanr(cosines, labels).statistic)
    return spearman_R


def fit_weights(products: PairProducts, labels_P: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Weights [L] of one strength, fitted to all pairs; 0 or more, summing to 1."""
    comparisons_C2 = drawn_comparisons(labels_P, np.arange(len(labels_P)), seed)
    parameters = _start(products)
    for stronger in (larger for larger in STRENGTHS if larger > strength):
        parameters = _minimum(products, comparisons_C2, stronger, parameters)
    weights_L = _minimum(products, comparisons_C2, strength, parameters)[:-1]
    return weights_L / weights_L.sum()


def drawn_comparisons(labels_P: np.ndarray, among: np.ndarray, seed: int) -> np.ndarray:
    """Pairs i and j with a higher label of i, [C, 2]: all of them, or `MOST_COMPARISONS` drawn at random with
    replacement.

    Args:
        among: the numbers of the pairs that are compared.
    """
    labels = labels_P[among]
    lower = np.searchsorted(np.sort(labels), labels, side="left")  # of each pair, how many have a lower label
    order = np.argsort(labels, kind="stable")
    total = int(lower.sum())
    if total <= MOST_COMPARISONS:
        higher = np.repeat(np.arange(len(labels)), lower)
        starts = np.repeat(np.cumsum(lower) - lower, lower)
        other = order[np.arange(total) - starts]
    else:
        drawn = np.random.default_rng(seed).integers(0, total, MOST_COMPARISONS)
        ends = np.cumsum(lower)
        higher = np.searchsorted(ends, drawn, side="right")
        other = order[drawn - (ends - lower)[higher]]
    return np.stack([among[higher], among[other]], axis=1)


def ranking_loss(
    parameters: np.ndarray, products: PairProducts, comparisons_C2: np.ndarray, strength: float
) -> tuple[float, np.ndarray]:
    """What is minimized, and its gradient.

    Args:
        parameters: the weights [L], then log b.
        comparisons_C2: numbers of the pairs, the one with the higher label first.
    """
    weights_L, scale = parameters[:-1], float(np.exp(parameters[-1]))
    layers = len(weights_L)
    cosine_P, factors_3P = cosines_and_factors(products, weights_L)
    higher, lower = comparisons_C2.T
    scaled_C = scale * (cosine_P[higher] - cosine_P[lower])
    small_C = np.exp(-np.abs(scaled_C))  # at most 1, whatever the gap: log(1 + exp(-x)) and its slope come from it
    loss = float((np.log1p(small_C) - np.minimum(scaled_C, 0)).mean())
    by_scaled_C = -np.where(scaled_C > 0, small_C, 1.0) / (1 + small_C) / len(scaled_C)
    pull_P = np.bincount(higher, by_scaled_C, len(cosine_P)) - np.bincount(lower, by_scaled_C, len(cosine_P))
    away_L = weights_L - 1 / layers
    loss += strength * layers * float(away_L @ away_L)
    slope_L = products.gradient(weights_L, scale * pull_P * factors_3P) + 2 * strength * layers * away_L
    return loss, np.append(slope_L, by_scaled_C @ scaled_C)


def _minimum(products: PairProducts, comparisons_C2: np.ndarray, strength: float, start: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    bounds = [(0.0, None)] * (len(start) - 1) + [(-20.0, 20.0)]
    minimum = minimize(
        ranking_loss,
        start,
        (products, comparisons_C2, strength),
        method="L-BFGS-B",
        jac=True,
        bounds=bounds,
        options={"maxiter": MOST_ITERATIONS, "ftol": 1e-10},
    )
    return np.asarray(minimum.x)


def _start(products: PairProducts) -> np.ndarray:
    """Equal weights, and a scale at which differences of cosines are about 1."""
    weights_L = np.full(products.layers, 1 / products.layers)
    spread = float(weighted_cosines(products, weights_L).std())
    return np.append(weights_L, -np.log(spread) if spread > 0 else 0.0)


def _folds(labels_P: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each pair, [P]: every fold has about the same labels, and which pairs it has is drawn."""
    drawn_P = np.random.default_rng(seed).permutation(len(labels_P))
    order_P = np.lexsort((drawn_P, labels_P))
    fold_P = np.empty(len(labels_P), dtype=np.int64)
    fold_P[order_P] = np.arange(len(labels_P)) % FOLDS
    return fold_P
