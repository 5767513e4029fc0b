"""Post-processing against NumPy's other route (SVD and covariance), and where it must refuse."""

from __future__ import annotations

import numpy as np
import pytest

from rwkv_sweep.config.schema import POSTPROCESSES
from rwkv_sweep.embedding.postprocessing import HEAD, fit
from rwkv_sweep.errors import UserError


def sentence_vectors(sentences: int, dims: int, seed: int = 0) -> np.ndarray:
    """Vectors with a large common part and a few strong directions, as sentence embeddings have."""
    random = np.random.default_rng(seed)
    scales_D = 3.0 ** -np.arange(dims)[: min(dims, 12)]
    return (
        5 + random.normal(size=(sentences, len(scales_D))) * scales_D @ random.normal(size=(len(scales_D), dims))
    ).astype(np.float32)


@pytest.mark.parametrize(("sentences", "dims"), [(40, 6), (9, 30)])
def test_center_and_all_but_the_top_equal_numpy(sentences: int, dims: int) -> None:
    fitted_SD, other_SD = sentence_vectors(sentences, dims), sentence_vectors(5, dims, seed=1)
    mean_D = fitted_SD.astype(np.float64).mean(0)
    centred_SD = other_SD - mean_D
    np.testing.assert_allclose(fit("center", fitted_SD).apply(other_SD), centred_SD, rtol=1e-9)
    top_2D = np.linalg.svd(fitted_SD - mean_D)[2][:2]
    expected_SD = centred_SD - sum(np.outer(centred_SD @ direction_D, direction_D) for direction_D in top_2D)
    actual_SD = fit("abtt", fitted_SD, components=2).apply(other_SD)
    assert actual_SD.dtype == np.float64
    np.testing.assert_allclose(actual_SD, expected_SD, atol=1e-7)
    assert np.abs(fit("abtt", fitted_SD, components=2).apply(fitted_SD) @ top_2D.T).max() < 1e-6


def test_none_changes_nothing() -> None:
    vectors_SD = sentence_vectors(4, 3)
    np.testing.assert_array_equal(fit("none", vectors_SD).apply(vectors_SD), vectors_SD)
    assert fit("none", vectors_SD).apply(vectors_SD).dtype == np.float64


def test_two_directions_are_taken_out_unless_said_otherwise() -> None:
    vectors_SD = sentence_vectors(20, 6)
    np.testing.assert_array_equal(
        fit("abtt", vectors_SD).apply(vectors_SD), fit("abtt", vectors_SD, 2).apply(vectors_SD)
    )


def test_whitened_vectors_have_unit_covariance_and_the_distances_of_mahalanobis() -> None:
    vectors_SD = sentence_vectors(60, 6)
    white_SD = fit("whiten", vectors_SD).apply(vectors_SD)
    np.testing.assert_allclose(white_SD.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(white_SD.T @ white_SD / 60, np.eye(6), atol=1e-6)
    inverse_DD = np.linalg.inv(np.cov(vectors_SD.astype(np.float64).T, bias=True))
    centred_SD = vectors_SD - vectors_SD.astype(np.float64).mean(0)
    np.testing.assert_allclose(white_SD @ white_SD.T, centred_SD @ inverse_DD @ centred_SD.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize("sentences", [20, 60])
def test_whitening_keeps_only_directions_with_a_variance(sentences: int, scale: float) -> None:
    random = np.random.default_rng(0)
    low_SR, spread_RD = random.normal(size=(sentences, 4)), random.normal(size=(4, 30))
    spread_RD *= scale
    done = fit("whiten", (low_SR @ spread_RD + 2 * scale).astype(np.float32))
    white_SD = done.apply((low_SR @ spread_RD + 2 * scale).astype(np.float32))
    assert white_SD.shape == (sentences, 4)  # of 30 dimensions; from [S, S] or from [D, D]
    np.testing.assert_allclose(white_SD.T @ white_SD / sentences, np.eye(4), atol=1e-5)


def test_whitening_of_too_few_sentences_keeps_half_as_many_directions() -> None:
    vectors_SD = np.random.default_rng(0).normal(size=(10, 30)) * 0.9 ** np.arange(30)
    white_SD = fit("whiten", vectors_SD).apply(vectors_SD)
    left_SS, values_S, _ = np.linalg.svd(vectors_SD - vectors_SD.mean(0))
    assert white_SD.shape == (10, 5) and values_S[8] > 1e-6  # of 9 directions
    np.testing.assert_allclose(np.abs(white_SD), np.abs(left_SS[:, :5]) * np.sqrt(10), atol=1e-9)


@pytest.mark.parametrize("vectors_SD", [np.ones((4, 3)), np.array([[1.0, 2.0]])])
def test_nothing_to_whiten(vectors_SD: np.ndarray) -> None:
    with pytest.raises(
        UserError,
        match=r"no direction with a variance .* fitted on: valid are two sentences or more that are not all the same$",
    ):
        fit("whiten", vectors_SD)


@pytest.mark.parametrize("components", [3, 7])
def test_no_more_components_than_directions(components: int) -> None:
    with pytest.raises(UserError, match=f"postprocess.components={components} is too many: .* have 3 directions"):
        fit("abtt", sentence_vectors(20, 3), components)


def test_every_postprocessing_of_the_config_is_there() -> None:
    for name in (name for name in POSTPROCESSES if name != HEAD):
        assert fit(name, sentence_vectors(20, 4)).apply(sentence_vectors(3, 4)).shape == (3, 4)
    with pytest.raises(UserError, match=r"postprocess\.name=pca is not known"):
        fit("pca", sentence_vectors(20, 4))
