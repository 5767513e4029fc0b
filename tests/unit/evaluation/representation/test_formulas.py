"""Each metric against its formula, written out over materialized vectors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power
from scipy.spatial.distance import cdist, pdist
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics.pairwise import cosine_similarity

from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.representation import geometry, views
from rwkv_sweep.evaluation.representation.cka import linear_cka
from rwkv_sweep.evaluation.representation.entropy import centred_unit_rows, effective_rank, matrix_entropy
from rwkv_sweep.evaluation.representation.word_dropout import RATE, two_views

SHAPES = [(30, 8), (8, 30), (17, 17), (2, 3)]
CLOSE = {"rel": 1e-9, "abs": 1e-9}


def vectors(count: int, dims: int, seed: int = 0) -> np.ndarray:
    """Correlated and off-centre, as those of a network are."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, dims)) * np.linspace(0.1, 3, dims) + random.normal(size=dims)


def rows_by_hand(vectors_ND: np.ndarray) -> np.ndarray:
    centred_ND = vectors_ND - vectors_ND.mean(0)
    return np.array([row / np.linalg.norm(row) for row in centred_ND])


def entropy_by_hand(kernel: np.ndarray) -> float:
    values = np.abs(np.linalg.svd(kernel, compute_uv=False))
    return float(scipy_entropy(values / values.sum()))


@pytest.mark.parametrize(("count", "dims"), SHAPES)
def test_entropy_and_rank(count: int, dims: int) -> None:
    vectors_ND = vectors(count, dims)
    rows_ND = rows_by_hand(vectors_ND)
    expected = entropy_by_hand(rows_ND @ rows_ND.T)
    assert matrix_entropy(vectors_ND) == pytest.approx(expected, **CLOSE)
    assert effective_rank(matrix_entropy(vectors_ND)) == pytest.approx(math.exp(expected), **CLOSE)


def test_entropy_of_known_spectra() -> None:
    axes = np.concatenate([np.eye(5), -np.eye(5)])
    assert matrix_entropy(axes) == pytest.approx(math.log(5))
    assert effective_rank(matrix_entropy(axes)) == pytest.approx(5)
    assert matrix_entropy(np.outer(np.arange(6.0), np.ones(3))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("count", "dims"), SHAPES)
def test_geometry(count: int, dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "_BLOCK_ELEMENTS", 5 * count)  # several blocks
    vectors_ND = vectors(count, dims)
    pairs = list(itertools.combinations(range(count), 2))
    cosines = cosine_similarity(vectors_ND)
    assert geometry.anisotropy(vectors_ND) == pytest.approx(np.mean([cosines[pair] for pair in pairs]), **CLOSE)
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    expected = np.log(np.exp(-2 * pdist(unit_ND, "sqeuclidean")).mean())
    assert geometry.uniformity(vectors_ND) == pytest.approx(expected, **CLOSE)


def test_geometry_counts_repeats_and_zero_vectors() -> None:
    vectors_ND = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    assert geometry.anisotropy(vectors_ND) == pytest.approx(1 / 6)
    expected = math.log((1 + 3 * math.exp(-2) + 2 * math.exp(-4)) / 6)
    assert geometry.uniformity(vectors_ND) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "positive"),
    [([0, 1, 1, 0, 1], [1, 2, 4]), ([0, 4, 4.2, 5, 1], [2, 3]), ([-1, 1, 0.7, -0.5, 0], [1, 2])],
)
def test_alignment(labels: list[float], positive: list[int]) -> None:
    first_PD, second_PD = vectors(5, 6), vectors(5, 6, seed=1)
    distances = [
        np.sum((first_PD[i] / np.linalg.norm(first_PD[i]) - second_PD[i] / np.linalg.norm(second_PD[i])) ** 2)
        for i in positive
    ]
    assert geometry.alignment(first_PD, second_PD, np.array(labels)) == pytest.approx(np.mean(distances), **CLOSE)


def test_intrinsic_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "_BLOCK_ELEMENTS", 300)
    vectors_ND = vectors(40, 6)
    distances_NN = np.sort(cdist(vectors_ND, vectors_ND), axis=1)
    expected = 39 / np.log(distances_NN[:, 2] / distances_NN[:, 1]).sum()
    assert geometry.intrinsic_dimension(vectors_ND) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_a_repeat_has_no_ratio(noise: float) -> None:
    """Repeats differ by what fp32 rounds, where they were in other batches."""
    distinct_ND = vectors(40, 6)
    vectors_ND = np.concatenate([distinct_ND, distinct_ND[:3] * (1 + noise)])
    distances_NN = np.sort(cdist(vectors_ND, vectors_ND), axis=1)[3:40]
    expected = 36 / np.log(distances_NN[:, 2] / distances_NN[:, 1]).sum()
    assert geometry.intrinsic_dimension(vectors_ND) == pytest.approx(expected, rel=1e-6)


# Two views.


@pytest.mark.parametrize(("count", "dims"), SHAPES)
def test_views(count: int, dims: int) -> None:
    raw = vectors(count, dims), vectors(count, dims) + 0.3 * vectors(count, dims, seed=1)
    first_ND, second_ND = views.normalized_views(*raw)
    both = rows_by_hand(np.concatenate(raw))
    np.testing.assert_allclose(np.concatenate([first_ND, second_ND]), both, atol=1e-12)
    chances = softmax(first_ND @ second_ND.T / 0.1, axis=1)
    expected = 1 + np.mean(np.log(np.diagonal(chances))) / np.log(count)
    assert views.infonce(first_ND, second_ND) == pytest.approx(expected, **CLOSE)
    assert views.lidar(first_ND, second_ND) == pytest.approx(lidar_by_hand(first_ND, second_ND), rel=1e-6, abs=1e-6)


def lidar_by_hand(first_ND: np.ndarray, second_ND: np.ndarray) -> float:
    dims = first_ND.shape[1]
    between, within = np.zeros((dims, dims)), np.zeros((dims, dims))
    whole = np.concatenate([first_ND, second_ND]).mean(0)
    for a, b in zip(first_ND, second_ND, strict=True):
        mean = (a + b) / 2
        between += np.outer(mean - whole, mean - whole)
        within += np.outer(a - mean, a - mean) + np.outer(b - mean, b - mean)
    within = within / (2 * len(first_ND)) + 1e-4 * np.eye(dims)
    root = fractional_matrix_power(within, -0.5)
    return entropy_by_hand(root @ (between / len(first_ND)) @ root)


@pytest.mark.parametrize(("count", "dims"), SHAPES)
def test_dime(count: int, dims: int) -> None:
    first_ND = centred_unit_rows(vectors(count, dims))
    second_ND = centred_unit_rows(vectors(count, dims) + 0.3 * vectors(count, dims, seed=1))
    random = np.random.default_rng(7)
    joint = [
        entropy_by_hand((first_ND @ first_ND.T) * (shuffled @ shuffled.T))
        for shuffled in (second_ND[random.permutation(count)] for _ in range(10))
    ]
    own = entropy_by_hand((first_ND @ first_ND.T) * (second_ND @ second_ND.T))
    assert views.dime(first_ND, second_ND, 7) == pytest.approx(np.mean(joint) - own, **CLOSE)


def test_equal_views_are_distinguished_and_unrelated_ones_are_not() -> None:
    equal = views.normalized_views(vectors(60, 40), vectors(60, 40))
    unrelated = views.normalized_views(vectors(60, 40), vectors(60, 40, seed=1))
    assert views.infonce(*equal) > 0.9 and views.infonce(*unrelated) < 0.3
    assert views.dime(*equal, 0) > 10 * abs(views.dime(*unrelated, 0))


# CKA.


def test_cka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwkv_sweep.evaluation.representation.cka._BLOCK_ELEMENTS", 3 * 25 * 4)
    layers = [vectors(25, dims, seed) for seed, dims in enumerate((4, 9, 40))]
    layers[1] *= 1e120
    actual_LL = linear_cka(layers)
    for i, j in itertools.product(range(3), repeat=2):
        x, y = (layer / np.abs(layer).max() for layer in (layers[i], layers[j]))
        x, y = x - x.mean(0), y - y.mean(0)
        norm = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
        assert actual_LL[i, j] == pytest.approx(np.linalg.norm(y.T @ x) ** 2 / norm, **CLOSE)


def test_cka_knows_no_rotation_and_scale_and_a_constant_layer_has_none() -> None:
    layer_ND = vectors(25, 6)
    turned_ND = 3 * layer_ND @ np.linalg.qr(vectors(6, 6))[0] + 1
    actual_LL = linear_cka([layer_ND, turned_ND, np.ones((25, 2))])
    np.testing.assert_allclose(actual_LL[:2, :2], 1)
    assert np.isnan(actual_LL[2]).all()


# Figures of libraries that others wrote, on the same vectors.


def test_entropy_is_that_of_vendi_score() -> None:
    """vendi-score 0.0.3: `vendi.score_dual` and `score_K` of the centred rows at length 1."""
    assert effective_rank(matrix_entropy(vectors(200, 6))) == pytest.approx(4.253073718359, rel=1e-9)


def test_two_nn_is_that_of_dadapy_and_scikit_dimension() -> None:
    """dadapy 0.3.4: `compute_id_2NN(algorithm="ml", mu_fraction=1.0)`; scikit-dimension 0.5.0:
    `TwoNN(discard_fraction=0, method="mle")`, which leaves repeats out as well."""
    vectors_ND = vectors(200, 6)
    assert geometry.intrinsic_dimension(vectors_ND) == pytest.approx(4.91146892318845, rel=1e-9)
    with_repeats = np.concatenate([vectors_ND, vectors_ND[:5]])
    assert geometry.intrinsic_dimension(with_repeats) == pytest.approx(4.87978993746847, rel=1e-9)


def test_cka_is_that_of_ckatorch() -> None:
    """ckatorch 1.0.3: `cka_base(x, y, kernel="linear")`."""
    actual_LL = linear_cka([vectors(200, dims, seed) for seed, dims in enumerate((6, 9, 30))])
    theirs = [0.02075071984878296, 0.03411022822177732, 0.03816583353055486]
    assert actual_LL[[1, 2, 2], [0, 0, 1]] == pytest.approx(theirs, rel=1e-9)


# What has no value.


@pytest.mark.parametrize(
    "metric",
    [
        lambda rows: matrix_entropy(np.ones((4, 3))),
        lambda rows: matrix_entropy(np.full((4, 3), 1 / 3)),
        lambda rows: geometry.anisotropy(rows[:1]),
        lambda rows: geometry.uniformity(rows[:1]),
        lambda rows: geometry.alignment(rows, rows, np.ones(len(rows))),
        lambda rows: geometry.intrinsic_dimension(rows[:2]),
        lambda rows: geometry.intrinsic_dimension(np.ones((5, 3))),
        lambda rows: views.infonce(rows[:1], rows[:1]),
        lambda rows: views.dime(rows[:1], rows[:1], 0),
        lambda rows: views.dime(np.zeros((3, 2)), np.zeros((3, 2)), 0),
        lambda rows: views.lidar(rows[:1], rows[:1]),
        lambda rows: views.lidar(np.zeros((3, 2)), np.zeros((3, 2))),
    ],
)
def test_what_has_no_value_is_undefined(metric: Callable[[np.ndarray], float]) -> None:
    with pytest.raises(UndefinedError):
        metric(vectors(6, 3))


# Word dropout.


def test_two_views_of_a_sentence() -> None:
    words = [f"w{number}" for number in range(40)]
    sentences = [" ".join(words)] * 200
    first, second = two_views(sentences, 3)
    assert (first, second) == two_views(sentences, 3) != two_views(sentences, 4)
    counts = np.array([[word in view.split() for word in words] for view in first + second])
    assert counts.mean() == pytest.approx(1 - RATE, abs=0.01)
    assert np.abs(np.corrcoef(counts[:200].ravel(), counts[200:].ravel())[0, 1]) < 0.05
    assert all(view == " ".join(word for word in words if word in view.split()) for view in first)


@pytest.mark.parametrize("sentence", ["one", "a b", "今日は良い天気です", "ฝนตกหนัก", "Hello 世界 , yes", "...", "  x "])
def test_a_view_is_never_empty_and_holds_nothing_new(sentence: str) -> None:
    views_of = [view for seed in range(60) for side in two_views([sentence], seed) for view in side]
    assert all(view.strip() and not set(view) - set(sentence) for view in views_of)
    assert (len(set(views_of)) > 1) == (len(sentence.strip()) > 3 or " " in sentence.strip()) or sentence == "..."
