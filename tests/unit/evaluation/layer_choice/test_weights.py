"""Learned weights of layers: planted ones are found, a tiny problem against a grid, gradients against differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import spearmanr

from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.layer_choice import weights as weights_module
from rwkv_sweep.evaluation.layer_choice.pair_products import cosines_and_factors, pair_products, weighted_cosines
from rwkv_sweep.evaluation.layer_choice.weights import (
    drawn_comparisons,
    fit_weights,
    learn_weights,
    ranking_loss,
)
from rwkv_sweep.evaluation.metrics import cosine


def layers_of_pairs(layers: int, pairs: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Vectors [L, 2P, D] of length 1; a pair's two sentences have a part in common, of another size in each layer."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(layers, pairs, size)) * random.uniform(0, 3, size=(layers, pairs, 1))
    v_LSD = np.concatenate([common + random.normal(size=common.shape) for _ in range(2)], axis=1)
    return v_LSD / np.linalg.norm(v_LSD, axis=-1, keepdims=True)


def planted(weights: list[float], pairs: int = 250, kind: str = "graded") -> tuple[np.ndarray, np.ndarray]:
    """Vectors, and labels by the cosines that these weights give: their ranks in steps, or above the median or not."""
    v_LSD = layers_of_pairs(len(weights), pairs)
    cosines = by_hand(v_LSD, weights)
    if kind == "binary":
        return v_LSD, (cosines > np.median(cosines)).astype(float)
    return v_LSD, np.round(cosines * 10)


def by_hand(v_LSD: np.ndarray, weights: object) -> np.ndarray:
    """Cosines of the pairs from the vectors themselves."""
    summed_SD = np.tensordot(np.asarray(weights, dtype=float), v_LSD, axes=1)
    return cosine(*np.split(summed_SD, 2))


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.5, -1.0, 2.0]])
@pytest.mark.parametrize("pairs", [3, 300])
def test_cosines_from_products_are_those_of_the_vectors(weights: list[float], pairs: int) -> None:
    v_LSD = layers_of_pairs(3, pairs)
    cosines = weighted_cosines(pair_products(v_LSD), np.array(weights))
    np.testing.assert_allclose(cosines, by_hand(v_LSD, weights), atol=1e-12)


def test_a_sum_of_length_0_has_cosine_0() -> None:
    v_LSD = layers_of_pairs(2, 3)
    v_LSD[:, 1] = 0
    cosines, factors = cosines_and_factors(pair_products(v_LSD), np.array([0.5, 0.5]))
    assert cosines[1] == 0 and not factors[:, 1].any() and np.isfinite(factors).all() and cosines[0] != 0


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_gradient_equals_differences(strength: float) -> None:
    v_LSD, labels = planted([0.2, 0.3, 0.5], pairs=30)
    arguments = (pair_products(v_LSD), drawn_comparisons(labels, np.arange(30), 0), strength)
    start = np.array([0.5, 0.1, 0.4, 0.7])
    error = check_grad(lambda x: ranking_loss(x, *arguments)[0], lambda x: ranking_loss(x, *arguments)[1], start)
    assert error < 1e-6


def test_objective_equals_its_definition() -> None:
    v_LSD, labels = planted([0.2, 0.3, 0.5], pairs=12)
    weights, scale, strength = np.array([0.6, 0.1, 0.3]), 2.5, 0.2
    cosines = by_hand(v_LSD, weights)
    losses = [
        np.log(1 + np.exp(-scale * (cosines[i] - cosines[j])))
        for i, j in itertools.product(range(12), repeat=2)
        if labels[i] > labels[j]
    ]
    expected = np.mean(losses) + strength * 3 * ((weights - 1 / 3) ** 2).sum()
    comparisons = drawn_comparisons(labels, np.arange(12), 0)
    assert len(comparisons) == len(losses)
    value, _ = ranking_loss(np.append(weights, np.log(scale)), pair_products(v_LSD), comparisons, strength)
    assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("most", [5000, 100])
def test_comparisons_are_of_higher_with_lower_labels(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, each once; where they are too many, some of these, the same ones for the same seed."""
    monkeypatch.setattr(weights_module, "MOST_COMPARISONS", most)
    labels = np.random.default_rng(0).integers(0, 4, 40).astype(float)
    among = np.arange(0, 40, 2)
    expected = {(i, j) for i, j in itertools.product(among.tolist(), repeat=2) if labels[i] > labels[j]}
    drawn = [tuple(row) for row in drawn_comparisons(labels, among, 3).tolist()]
    if len(expected) <= most:
        assert set(drawn) == expected and len(drawn) == len(expected)
    else:
        assert set(drawn) <= expected and len(drawn) == most
        assert drawn == [tuple(row) for row in drawn_comparisons(labels, among, 3).tolist()]
        assert drawn != [tuple(row) for row in drawn_comparisons(labels, among, 4).tolist()]


@pytest.mark.parametrize("kind", ["graded", "binary"])
@pytest.mark.parametrize("weights", [[0.6, 0.0, 0.1, 0.3], [0.0, 0.0, 1.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
def test_planted_weights_are_found(weights: list[float], kind: str) -> None:
    v_LSD, labels = planted(weights, kind=kind)
    learned = learn_weights(pair_products(v_LSD), labels, seed=0)
    np.testing.assert_allclose(learned.weights_L, weights, atol=0.06)
    assert learned.weights_L.min() >= 0 and learned.weights_L.sum() == pytest.approx(1)
    assert learned.cross_validated > (0.95 if kind == "graded" else 0.8)


def test_a_tiny_problem_equals_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two weights and the scale of differences: every combination on a grid is brute force."""
    v_LSD, labels = planted([0.3, 0.7], pairs=25, kind="binary")
    labels[:4] = 1 - labels[:4]  # noise, so that the scale stays finite
    products, comparisons = pair_products(v_LSD), drawn_comparisons(labels, np.arange(25), 0)
    steps = np.linspace(0, 1, 26)
    scales = np.linspace(-1, 4, 16)
    grid = {
        (first, second, scale): ranking_loss(np.array([first, second, scale]), products, comparisons, 0.01)[0]
        for first, second, scale in itertools.product(steps, steps, scales)
        if first + second > 0
    }
    first, second, _ = min(grid, key=grid.__getitem__)
    monkeypatch.setattr(weights_module, "STRENGTHS", (1.0, 0.01))
    fitted = fit_weights(products, labels, 0.01, seed=0)
    assert fitted[0] == pytest.approx(first / (first + second), abs=0.05)


def test_pure_noise_leaves_weights_equal_or_costs_little() -> None:
    """Labels that no weights explain: what is cross-validated is near 0, not the figure on the fitted pairs."""
    v_LSD = layers_of_pairs(12, 120)
    labels = np.random.default_rng(5).integers(0, 2, 120).astype(float)
    products = pair_products(v_LSD)
    learned = learn_weights(products, labels, seed=0)
    on_fitted = spearmanr(weighted_cosines(products, fit_weights(products, labels, 0.0001, 0)), labels).statistic
    assert abs(learned.cross_validated) < 0.2 < on_fitted


def test_the_seed_decides() -> None:
    v_LSD, labels = planted([0.6, 0.1, 0.3], pairs=60)
    labels = np.round(labels + np.random.default_rng(1).normal(size=60) * 3)
    products = pair_products(v_LSD)
    first, again, other = (learn_weights(products, labels, seed) for seed in (0, 0, 1))
    assert first.weights_L.tolist() == again.weights_L.tolist()
    assert (first.strength, first.cross_validated) == (again.strength, again.cross_validated)
    assert other.cross_validated != first.cross_validated


@pytest.mark.parametrize("what", ["equal cosines", "too few pairs"])
def test_what_has_no_spearman_is_undefined(what: str) -> None:
    v_LSD, labels = planted([0.5, 0.5], pairs=40)
    if what == "equal cosines":
        v_LSD[:, 40:] = v_LSD[:, :40]
    else:
        v_LSD, labels = v_LSD[:, [0, 1, 40, 41]], np.array([0.0, 1.0])
    with pytest.raises(UndefinedError, match=f"the {len(labels)} pairs to fit weights on are too few"):
        learn_weights(pair_products(v_LSD), labels, 0)


def test_products_of_some_pairs_and_of_some_layers() -> None:
    v_LSD = layers_of_pairs(4, 5)
    chosen = np.array([3, 1])
    some = pair_products(v_LSD).rows(chosen).of_layers([2, 0])
    weights = np.array([0.3, 0.7])
    expected = by_hand(v_LSD[[2, 0]][:, np.concatenate([chosen, chosen + 5])], weights)
    np.testing.assert_allclose(weighted_cosines(some, weights), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_the_loss_is_finite_at_any_scale(scale: float) -> None:
    v_LSD, labels = planted([0.2, 0.3, 0.5], pairs=12)
    comparisons = drawn_comparisons(labels, np.arange(12), 0)
    loss, slope = ranking_loss(np.array([0.2, 0.5, 0.3, np.log(scale)]), pair_products(v_LSD), comparisons, 0.0)
    gaps = by_hand(v_LSD, [0.2, 0.5, 0.3])[comparisons] @ [1, -1]
    assert loss == pytest.approx(np.logaddexp(0, -scale * gaps).mean(), rel=1e-9)
    assert np.isfinite(slope).all()
