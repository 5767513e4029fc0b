"""The scores of pairs as a function of the weights of layers, from inner products of layers alone.

The vector of a sentence is the weighted sum of its layers' vectors, so that the cosine of a pair needs only the inner
products of the layers of its two sentences: three small matrices a pair, whatever the hidden size.

Shapes: L layers, P pairs, S sentences, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PAIRS_AT_A_TIME = 256


@dataclass(frozen=True)
class PairProducts:
    """Inner products of the layers' vectors of each pair, float64.

    Attributes:
        cross_PLL: of the first sentence with the second, made symmetric: only its quadratic form is used.
        first_PLL, second_PLL: of each sentence with itself.
    """

    cross_PLL: np.ndarray
    first_PLL: np.ndarray
    second_PLL: np.ndarray

    def rows(self, chosen: np.ndarray) -> PairProducts:
        """Those of some of the pairs."""
        return PairProducts(self.cross_PLL[chosen], self.first_PLL[chosen], self.second_PLL[chosen])


def pair_products(v_LSD: np.ndarray) -> PairProducts:
    """Of the layers' vectors as they are summed; of the S = 2P sentences the first half are the pairs' first ones."""
    layers, sentences, _ = v_LSD.shape
    pairs = sentences // 2
    products = [np.empty((pairs, layers, layers)) for _ in range(3)]
    for start in range(0, pairs, PAIRS_AT_A_TIME):
        rows = slice(start, min(start + PAIRS_AT_A_TIME, pairs))
        first_PLD = v_LSD[:, rows].transpose(1, 0, 2).astype(np.float64)
        second_PLD = v_LSD[:, pairs:][:, rows].transpose(1, 0, 2).astype(np.float64)
        cross_PLL = first_PLD @ second_PLD.transpose(0, 2, 1)
        products[0][rows] = (cross_PLL + cross_PLL.transpose(0, 2, 1)) / 2
        products[1][rows] = first_PLD @ first_PLD.transpose(0, 2, 1)
        products[2][rows] = second_PLD @ second_PLD.transpose(0, 2, 1)
    return PairProducts(*products)


def weighted_cosines(products: PairProducts, weights_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of each pair's weighted sums of layers, [P], and its derivatives by the weights, [P, L].

    A pair with a sum of length 0 has cosine 0, as in `rwkv_sweep.evaluation.metrics.cosine`, and no derivative.
    """
    cross_PL, first_PL, second_PL = (
        matrix @ weights_L for matrix in (products.cross_PLL, products.first_PLL, products.second_PLL)
    )
    dot_P, first_P, second_P = (product_PL @ weights_L for product_PL in (cross_PL, first_PL, second_PL))
    lengths_P = np.sqrt(np.maximum(first_P * second_P, 0))
    nonzero_P = lengths_P > 0
    lengths_P, first_P, second_P = (np.where(nonzero_P, values_P, 1.0) for values_P in (lengths_P, first_P, second_P))
    cosine_P = np.where(nonzero_P, dot_P / lengths_P, 0.0)
    slope_PL = 2 * cross_PL / lengths_P[:, None]
    slope_PL -= cosine_P[:, None] * (first_PL / first_P[:, None] + second_PL / second_P[:, None])
    return cosine_P, slope_PL * nonzero_P[:, None]
