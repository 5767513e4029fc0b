"""Vectors as callers get them, and their cosines: against SciPy, and against what sentence-transformers publishes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist

from rwkv_sweep.api.outputs import finished, normalized
from rwkv_sweep.api.similarity import similarity, similarity_pairwise
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.output_formats import PRECISIONS, quantized, ranges

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(7, 20)).astype(np.float32)
OTHERS = RANDOM.normal(size=(3, 20)).astype(np.float32)


def test_dimensions_are_cut_before_lengths_are_made_one() -> None:
    actual = finished(VECTORS.astype(np.float64), 5, normalize=True)
    assert actual.dtype == np.float32 and actual.shape == (7, 5) and actual.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        actual, VECTORS[:, :5] / np.linalg.norm(VECTORS[:, :5], axis=1, keepdims=True), rtol=1e-6
    )
    np.testing.assert_array_equal(finished(VECTORS, None, normalize=False), VECTORS)
    assert finished(VECTORS[:0], 5, normalize=True).shape == (0, 5)


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_lengths_are_one_whatever_the_size(vectors: np.ndarray) -> None:
    lengths = np.linalg.norm(normalized(vectors).astype(np.float64), axis=1)
    zero = ~vectors.any(axis=1)
    np.testing.assert_allclose(lengths[~zero], 1, rtol=1e-5)
    assert (lengths[zero] == 0).all()


def published(vectors: np.ndarray, precision: str, limits: np.ndarray) -> np.ndarray:
    """`quantize_embeddings` of sentence-transformers as its documentation describes it, a value at a time."""
    out = np.zeros(vectors.shape, dtype=int)
    for (row, dim), value in np.ndenumerate(vectors):
        low, high = limits[:, dim]
        step = (high - low) / np.float32(255)
        out[row, dim] = min(max(int(np.floor((value - low) / (step or 1))), 0), 255)
    return out if precision == "uint8" else out - 128


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_steps_of_a_range(precision: str) -> None:
    vectors = np.concatenate([VECTORS, np.ones((1, 20), dtype=np.float32) * 9])
    limits = ranges(OTHERS)
    np.testing.assert_array_equal(limits, [OTHERS.min(0), OTHERS.max(0)])
    limits[:, 3] = 0.5  # a dimension that is the same in all
    actual = quantized(vectors, precision, limits)
    assert actual.dtype == np.dtype(precision)
    np.testing.assert_array_equal(actual, published(vectors, precision, limits))
    assert actual.max() == np.iinfo(precision).max and actual.min() == np.iinfo(precision).min


def test_bits() -> None:
    actual = quantized(VECTORS, "ubinary", None)
    assert actual.shape == (7, 3) and actual.dtype == np.uint8  # 20 bits, filled up with zeros
    for row, vector in zip(actual, VECTORS, strict=True):
        bits = "".join(f"{byte:08b}" for byte in row)
        assert bits == "".join("1" if value > 0 else "0" for value in vector) + "0000"
    signed = quantized(VECTORS, "binary", None)
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int), actual.astype(int) - 128)


def test_precisions_that_are_not_known() -> None:
    np.testing.assert_array_equal(quantized(VECTORS, "float32", None), VECTORS)
    assert PRECISIONS == ("float32", "int8", "uint8", "binary", "ubinary")
    with pytest.raises(UserError, match="precision=int4 is not known: valid are float32, int8"):
        quantized(VECTORS, "int4", None)


def test_the_same_as_sentence_transformers() -> None:
    util = pytest.importorskip("sentence_transformers.util", reason="sentence-transformers is not installed")
    for precision in PRECISIONS:
        theirs = util.quantize_embeddings(VECTORS, precision, ranges=ranges(OTHERS))
        ours = quantized(VECTORS, precision, ranges(OTHERS))
        assert theirs.dtype == ours.dtype
        np.testing.assert_array_equal(theirs, ours)
    np.testing.assert_allclose(similarity(VECTORS, OTHERS), util.cos_sim(VECTORS, OTHERS), atol=1e-6)
    both = similarity_pairwise(VECTORS, VECTORS[::-1].copy())
    np.testing.assert_allclose(both, util.pairwise_cos_sim(VECTORS, VECTORS[::-1].copy()), atol=1e-6)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda v: v.astype(np.float64),
    "float16": lambda v: v.astype(np.float16),
    "list": lambda v: v.tolist(),
    "list of arrays": list,
    "tensor": torch.tensor,
    "half tensor": lambda v: torch.tensor(v).half(),
    "bfloat16 tensor": lambda v: torch.tensor(v).bfloat16(),
    "list of tensors": lambda v: list(torch.tensor(v)),
    "with a gradient": lambda v: torch.tensor(v, requires_grad=True),
    "int8": lambda v: np.round(v * 30).astype(np.int8),
    "int64": lambda v: np.round(v * 1000).astype(np.int64),
    "huge": lambda v: v * np.float32(1e30),
    "tiny": lambda v: v * np.float32(1e-30),
    "large half": lambda v: (v * 2000).astype(np.float16),
}


@pytest.mark.parametrize("form", FORMS)
def test_cosines_of_every_form(form: str) -> None:
    one, other = FORMS[form](VECTORS), FORMS[form](OTHERS)
    actual = similarity(one, other)
    assert isinstance(actual, torch.Tensor) is ("tensor" in form or "gradient" in form)
    expected = 1 - cdist(VECTORS.astype(float), OTHERS.astype(float), "cosine")
    rounding = 0.02 if any(word in form for word in ("int8", "bfloat16")) else 2e-3
    np.testing.assert_allclose(np.asarray(actual), expected, atol=rounding)
    itself = np.asarray(similarity(one, one))
    np.testing.assert_allclose(np.diag(itself), 1, atol=1e-5)
    np.testing.assert_allclose(np.asarray(similarity_pairwise(one, one)), 1, atol=1e-5)
    assert itself.dtype == (np.float64 if form in ("float64", "list", "int64") else np.float32)


def test_one_vector_is_a_row_and_zeros_have_no_direction() -> None:
    assert similarity(VECTORS[0], OTHERS[0]).shape == (1, 1)
    assert similarity(VECTORS[0], OTHERS).shape == (1, 3)
    assert similarity(VECTORS[:0], OTHERS).shape == (0, 3)
    assert similarity_pairwise(VECTORS[0], OTHERS[0]).shape == (1,)
    zero = np.zeros((1, 20), dtype=np.float32)
    assert (np.asarray(similarity(zero, OTHERS)) == 0).all() and float(similarity(zero, zero)[0, 0]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: similarity_pairwise(VECTORS[:1], VECTORS[:2]),
            "embeddings1 is [1, 20], embeddings2 [2, 20]: valid are",
        ),
        (lambda: similarity(VECTORS, OTHERS[:, :5]), "embeddings1 has 20 dimensions, embeddings2 5: valid are as many"),
        (lambda: similarity(VECTORS[None], OTHERS), "embeddings1 is [1, 7, 20]: valid are one vector [D] or several"),
        (lambda: similarity(VECTORS, 3.0), "embeddings2 is []: valid are one vector"),
        (lambda: similarity(VECTORS, [[1.0, 2.0], [1.0]]), "embeddings2 is no matrix"),
        (lambda: similarity(VECTORS, ["a cat"]), "embeddings2 is of <U5: valid are float32"),
        (lambda: similarity(VECTORS, [None]), "embeddings2 is of object: valid are float32"),
        (
            lambda: similarity(quantized(VECTORS, "ubinary", None), OTHERS),
            "is of uint8: valid are float32 and other flo",
        ),
        (
            lambda: similarity(VECTORS, quantized(OTHERS, "binary", None), packed=3),
            "uint8 and packed bits have no cosine",
        ),
        (
            lambda: similarity(np.where(VECTORS > 2, np.nan, VECTORS), OTHERS),
            "embeddings1 holds NaN or infinity in row",
        ),
        (lambda: similarity(VECTORS, [*OTHERS, OTHERS[0] * np.inf]), "embeddings2 holds NaN or infinity in row 3"),
    ],
)
def test_what_has_no_cosine(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, UserError)) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)
