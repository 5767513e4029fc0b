"""Cosines of pairs under several post-processings of the same vectors, what they share computed once.

The post-processed vectors of `embedding.postprocessing` are not made where their inner products suffice: what
all-but-the-top takes out are orthonormal directions, whose products are subtracted.

Shapes: P pairs, S = 2P sentences, D dimensions, R directions; 3 stands for the products of a pair's first vector with
its second, of the first with itself, and of the second with itself.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from rwkv_sweep.embedding.postprocessing import Postprocess
from rwkv_sweep.errors import NonFiniteError


class PairVectors:
    """The vectors of pairs, the first sentences and then the second ones, before any post-processing."""

    def __init__(self, vectors_SD: np.ndarray, mean_D: np.ndarray) -> None:
        """
        Args:
            mean_D: that post-processings subtract.
        """
        self._vectors_SD = np.asarray(vectors_SD, dtype=np.float64)
        self._mean_D = mean_D

    @cached_property
    def _centred_SD(self) -> np.ndarray:
        centred_SD: np.ndarray = self._vectors_SD - self._mean_D
        return centred_SD

    @cached_property
    def _centred_3P(self) -> np.ndarray:
        return _products(self._centred_SD)

    def cosines(self, post: Postprocess) -> np.ndarray:
        """[P], as `pair_scores(post.apply(vectors))`; a vector of length 0 has cosine 0.

        Args:
            post: fitted; its mean, if it has one, is that of these vectors.

        Raises:
            NonFiniteError: NaN or infinity.
        """
        if post.mean_D is None:
            return _cosines(_products(self._vectors_SD))
        if post.whitening_DR is not None:
            return _cosines(_products(self._centred_SD @ post.whitening_DR))
        if post.removed_RD is not None:
            return _cosines(self._centred_3P - _products(self._centred_SD @ post.removed_RD.T))
        return _cosines(self._centred_3P)


def _products(vectors_SD: np.ndarray) -> np.ndarray:
    """Inner products [3, P]."""
    first_PD, second_PD = np.split(vectors_SD, 2)
    sides = ((first_PD, second_PD), (first_PD, first_PD), (second_PD, second_PD))
    return np.stack([np.einsum("pd,pd->p", one_PD, other_PD) for one_PD, other_PD in sides])


def _cosines(products_3P: np.ndarray) -> np.ndarray:
    if not np.isfinite(products_3P).all():
        raise NonFiniteError("its vectors hold NaN or infinity")
    dot_P, first_P, second_P = products_3P
    length_P = np.sqrt(np.maximum(first_P * second_P, 0))
    return np.divide(dot_P, length_P, out=np.zeros_like(dot_P), where=length_P > 0)
