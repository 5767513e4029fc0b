"""How sentence vectors lie in space: anisotropy, uniformity, alignment, intrinsic dimension.

Shapes: N vectors, D dimensions, P pairs, B vectors of a block, M vectors without a repeat. All in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.representation.entropy import unit_rows

POSITIVE_SHARE = 0.8
"""A pair is positive where its label lies above this share of the labels' range: 1 of 0/1, above 4 of 0 to 5."""
SAME = 1e-6
"""Vectors closer than this share of their root mean square length are the same one: fp32 rounds at 1e-7."""
_BLOCK_ELEMENTS = 1 << 24  # products held at a time: 128 MiB


def anisotropy(vectors_ND: np.ndarray) -> float:
    """Mean cosine of two different vectors, over all pairs of them (Ethayarajh 2019, arXiv 1909.00512).

    Raises:
        UndefinedError: fewer than two vectors.
    """
    rows_ND, count = unit_rows(vectors_ND), len(vectors_ND)
    _require_two(count)
    sum_D = rows_ND.sum(axis=0)
    return float((sum_D @ sum_D - np.einsum("nd,nd->", rows_ND, rows_ND)) / (count * (count - 1)))


def uniformity(vectors_ND: np.ndarray) -> float:
    """log of the mean of exp(-2 |x - y|^2) over all pairs of different vectors at length 1; the lower, the more evenly
    they cover the sphere (Wang and Isola 2020, arXiv 2005.10242).

    Raises:
        UndefinedError: fewer than two vectors.
    """
    rows_ND, count = unit_rows(vectors_ND), len(vectors_ND)
    _require_two(count)
    total = 0.0
    for start, squares_BN in _squared_distances(rows_ND):
        potential_BN = np.exp(-2 * squares_BN)
        places_B = np.arange(len(potential_BN))
        potential_BN[places_B, start + places_B] = 0.0  # a vector and itself
        total += potential_BN.sum()
    return float(np.log(total / (count * (count - 1))))


def alignment(first_PD: np.ndarray, second_PD: np.ndarray, labels_P: np.ndarray) -> float:
    """Mean squared distance of the two vectors, at length 1, of each positive pair (Wang and Isola 2020).

    Raises:
        UndefinedError: all labels are the same, so that no pair is positive.
    """
    low, high = labels_P.min(), labels_P.max()
    if low == high:
        raise UndefinedError(f"all {len(labels_P)} labels are {low:g}: no pair is more alike than another")
    positive_P = labels_P > low + POSITIVE_SHARE * (high - low)
    difference_PD = unit_rows(first_PD[positive_P]) - unit_rows(second_PD[positive_P])
    return float(np.einsum("pd,pd->p", difference_PD, difference_PD).mean())


def intrinsic_dimension(vectors_ND: np.ndarray) -> float:
    """TwoNN (Facco et al. 2017): from the ratios mu of the distances to a vector's second and first neighbour, in the
    unbiased maximum-likelihood form (M - 1) / sum log mu over M vectors.

    A vector whose first neighbour is at distance 0, a repeat, has no ratio and is left out.

    Raises:
        UndefinedError: fewer than two ratios, or all of them 1.
    """
    centred_ND = np.asarray(vectors_ND, dtype=np.float64)
    same = SAME * np.sqrt(np.einsum("nd,nd->n", centred_ND, centred_ND).mean())
    # Distances stay; about the mean, the squares that are subtracted from each other are small.
    centred_ND = centred_ND - centred_ND.mean(axis=0)
    nearest_N2 = np.full((len(centred_ND), 2), np.nan)
    if len(centred_ND) > 2:
        for start, squares_BN in _squared_distances(centred_ND):
            places_B = np.arange(len(squares_BN))
            squares_BN[places_B, start + places_B] = np.inf
            nearest_N2[start + places_B] = np.sqrt(np.sort(np.partition(squares_BN, 1, axis=1)[:, :2], axis=1))
    ratios_M = nearest_N2[nearest_N2[:, 0] > same]
    logs_M = np.log(ratios_M[:, 1] / ratios_M[:, 0])
    if len(logs_M) < 2 or not logs_M.sum() > 0:
        raise UndefinedError(f"{len(centred_ND)} vectors, of which {len(logs_M)} have no repeat: too few for TwoNN")
    return float((len(logs_M) - 1) / logs_M.sum())


def _squared_distances(rows_ND: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Squared distances of some of the rows to all, [B, N], and the number of the first of them; block by block."""
    squares_N = np.einsum("nd,nd->n", rows_ND, rows_ND)
    step = max(1, _BLOCK_ELEMENTS // max(1, len(rows_ND)))
    for start in range(0, len(rows_ND), step):
        block_BD = rows_ND[start : start + step]
        distances_BN = squares_N[start : start + step, None] + squares_N - 2 * (block_BD @ rows_ND.T)
        yield start, np.maximum(distances_BN, 0.0)


def _require_two(count: int) -> None:
    if count < 2:
        raise UndefinedError("a single vector is in no pair")
