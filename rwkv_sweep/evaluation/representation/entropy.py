"""Entropy of the spectrum of a set of vectors, and the effective rank that follows from it.

Shapes: N vectors, D dimensions, R = min(N, D) eigenvalues. All in float64.
"""

from __future__ import annotations

import numpy as np

from rwkv_sweep.errors import UndefinedError

NO_LENGTH = 1e-12
"""A centred vector below this share of its length before is rounding: it is taken for zero."""


def unit_rows(vectors_ND: np.ndarray) -> np.ndarray:
    """Each vector at length 1; a zero vector stays zero."""
    vectors_ND = np.asarray(vectors_ND, dtype=np.float64)
    return _divided(vectors_ND, np.linalg.norm(vectors_ND, axis=1), 0.0)


def centred_unit_rows(vectors_ND: np.ndarray) -> np.ndarray:
    """The vectors less their mean, each at length 1; one that equals the mean is zero."""
    vectors_ND = np.asarray(vectors_ND, dtype=np.float64)
    centred_ND = vectors_ND - vectors_ND.mean(axis=0)
    return _divided(centred_ND, np.linalg.norm(centred_ND, axis=1), NO_LENGTH * np.linalg.norm(vectors_ND, axis=1))


def spectrum(rows_ND: np.ndarray) -> np.ndarray:
    """Eigenvalues of K / tr K for K = Z Z^T, [R], ascending and at least 0; they add up to 1.

    The smaller of Z Z^T and Z^T Z is decomposed: but for zeros their spectra are the same.

    Raises:
        UndefinedError: all rows are zero.
    """
    count, dims = rows_ND.shape
    kernel = rows_ND @ rows_ND.T if count <= dims else rows_ND.T @ rows_ND
    trace = np.trace(kernel)
    if trace <= 0:
        raise UndefinedError(f"all {count} vectors are the same: they have no spectrum")
    return np.clip(np.linalg.eigvalsh(kernel / trace), 0.0, None)


def spectral_entropy(shares_R: np.ndarray) -> float:
    """-sum p log p in nats, of values of at least 0 that are scaled to add up to 1; 0 log 0 is 0.

    Raises:
        UndefinedError: all are zero.
    """
    total = shares_R.sum()
    if total <= 0:
        raise UndefinedError("a spectrum of zeros has no entropy")
    positive = shares_R[shares_R > 0] / total
    return float(-(positive * np.log(positive)).sum())


def matrix_entropy(vectors_ND: np.ndarray) -> float:
    """Entropy of the spectrum of the centred vectors at length 1, in nats: from 0 (all on one line) to log R.

    The matrix-based Renyi entropy of order 1 of arXiv 2502.02013. Negative entries of the kernel count as they are:
    clamped to zero, as the code beside that paper has it, another matrix would be measured.

    Raises:
        UndefinedError: all vectors are the same.
    """
    return spectral_entropy(spectrum(centred_unit_rows(vectors_ND)))


def effective_rank(entropy: float) -> float:
    """exp(entropy): how many directions of equal weight would have this entropy (Roy and Vetterli 2007)."""
    return float(np.exp(entropy))


def _divided(rows_ND: np.ndarray, norm_N: np.ndarray, least_N: np.ndarray | float) -> np.ndarray:
    """Rows over their norms; zero where a norm is not above the least."""
    shape = (len(rows_ND), 1)
    above_N1 = (norm_N > least_N).reshape(shape)
    return np.divide(rows_ND, norm_N.reshape(shape), out=np.zeros_like(rows_ND), where=above_N1)
