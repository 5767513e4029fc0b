"""The scores of pairs as a function of the weights of layers, from inner products of layers alone.

The vector of a sentence is the weighted sum of its layers' vectors, so that the cosine of a pair needs only the inner
products of the layers of its two sentences: three small matrices a pair, whatever the hidden size. Of each matrix only
the quadratic form counts, so that its upper triangle is kept, with what is off the diagonal doubled.

Shapes: L layers, T = L (L + 1) / 2 entries of a triangle, P pairs, S sentences, D hidden size; 3 stands for the product
of the first sentence with the second, of the first with itself, and of the second with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PAIRS_AT_A_TIME = 256


@dataclass(frozen=True)
class PairProducts:
    """Inner products of the layers' vectors of each pair, float64.

    Attributes:
        layers: L.
        triangles_3PT: their quadratic forms.
    """

    layers: int
    triangles_3PT: np.ndarray

    def rows(self, chosen: np.ndarray) -> PairProducts:
        """Those of some of the pairs."""
        return PairProducts(self.layers, self.triangles_3PT[:, chosen])

    def of_layers(self, places: Sequence[int]) -> PairProducts:
        """Those of some of the layers, by their places among all, in the order given."""
        place_LL = np.empty((self.layers, self.layers), dtype=np.int64)
        first, second = np.triu_indices(self.layers)
        place_LL[first, second] = place_LL[second, first] = np.arange(len(first))
        own_first, own_second = (np.asarray(places)[index] for index in np.triu_indices(len(places)))
        return PairProducts(len(places), self.triangles_3PT[:, :, place_LL[own_first, own_second]])

    def forms(self, weights_L: np.ndarray) -> np.ndarray:
        """The three inner products of each pair's weighted sums, [3, P]."""
        first, second = np.triu_indices(self.layers)
        flat = self.triangles_3PT.reshape(-1, len(first))
        values_3P: np.ndarray = (flat @ (weights_L[first] * weights_L[second])).reshape(3, -1)
        return values_3P

    def gradient(self, weights_L: np.ndarray, factors_3P: np.ndarray) -> np.ndarray:
        """Derivatives [L] of the sum of `forms`, each times its factor, by the weights."""
        first, second = np.triu_indices(self.layers)
        sum_T = factors_3P.ravel() @ self.triangles_3PT.reshape(-1, len(first))
        sum_LL = np.zeros((self.layers, self.layers))
        sum_LL[first, second] = sum_T
        slope_L: np.ndarray = (sum_LL + sum_LL.T) @ weights_L
        return slope_L


def pair_products(v_LSD: np.ndarray) -> PairProducts:
    """Of the layers' vectors as they are summed; of the S = 2P sentences the first half are the pairs' first ones."""
    layers, sentences, _ = v_LSD.shape
    pairs = sentences // 2
    upper = np.triu_indices(layers)
    doubled_T = np.where(upper[0] == upper[1], 1.0, 2.0)
    triangles_3PT = np.empty((3, pairs, len(doubled_T)))
    for start in range(0, pairs, PAIRS_AT_A_TIME):
        rows = slice(start, min(start + PAIRS_AT_A_TIME, pairs))
        first_PLD = v_LSD[:, rows].transpose(1, 0, 2).astype(np.float64)
        second_PLD = v_LSD[:, pairs:][:, rows].transpose(1, 0, 2).astype(np.float64)
        cross_PLL = first_PLD @ second_PLD.transpose(0, 2, 1)
        products = (
            (cross_PLL + cross_PLL.transpose(0, 2, 1)) / 2,
            first_PLD @ first_PLD.transpose(0, 2, 1),
            second_PLD @ second_PLD.transpose(0, 2, 1),
        )
        for triangles_PT, product_PLL in zip(triangles_3PT, products, strict=True):
            triangles_PT[rows] = product_PLL[:, upper[0], upper[1]] * doubled_T
    return PairProducts(layers, triangles_3PT)


def weighted_cosines(products: PairProducts, weights_L: np.ndarray) -> np.ndarray:
    """Cosine of each pair's weighted sums of layers, [P].

    A pair with a sum of length 0 has cosine 0, as in `rwkv_sweep.evaluation.metrics.cosine`.
    """
    return _cosines(products.forms(weights_L))[0]


def cosines_and_factors(products: PairProducts, weights_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`weighted_cosines`, and the derivative of each by its three inner products, [3, P]; 0 for a sum of length 0."""
    forms_3P = products.forms(weights_L)
    cosine_P, length_P = _cosines(forms_3P)
    nonzero_P = length_P > 0
    factors_3P = np.zeros_like(forms_3P)
    np.divide(1.0, length_P, out=factors_3P[0], where=nonzero_P)
    np.divide(-0.5 * cosine_P, forms_3P[1:], out=factors_3P[1:], where=nonzero_P)
    return cosine_P, factors_3P


def _cosines(forms_3P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines [P], and the products of the two lengths [P]."""
    dot_P, first_P, second_P = forms_3P
    length_P = np.sqrt(np.maximum(first_P * second_P, 0))
    return np.divide(dot_P, length_P, out=np.zeros_like(dot_P), where=length_P > 0), length_P
