"""Linear CKA: how alike two layers represent the same sentences, whatever rotation and scale.

Shapes: L layers, N sentences, D dimensions, B sentences of a block. All in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BLOCK_ELEMENTS = 1 << 24  # products of all layers held at a time: 128 MiB


def linear_cka(layers: Sequence[np.ndarray]) -> np.ndarray:
    """|Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of each two layers, centred, [L, L] (Kornblith et al. 2019, arXiv 1905.00414,
    their equation for linear kernels).

    From the products of sentences, of which one block of rows of each layer is held at a time: |Y^T X|_F^2 is the sum
    of the entrywise product of X X^T and Y Y^T. A layer that gives all sentences the same vector has no CKA: NaN.

    Args:
        layers: of each layer the vectors [N, D] of the same sentences; D may differ.
    """
    centred = [np.asarray(layer_ND, dtype=np.float64) for layer_ND in layers]
    centred = [layer_ND - layer_ND.mean(axis=0) for layer_ND in centred]
    # Scaled so that sums of fourth powers neither vanish nor overflow; CKA knows no scale.
    largest = [np.abs(layer_ND).max(initial=0.0) for layer_ND in centred]
    centred = [layer_ND / scale if scale else layer_ND for layer_ND, scale in zip(centred, largest, strict=True)]
    count = len(centred[0])
    step = max(1, _BLOCK_ELEMENTS // max(1, count * len(centred)))
    sums_LL = np.zeros((len(centred), len(centred)))
    for start in range(0, count, step):
        products = [(layer_ND[start : start + step] @ layer_ND.T).ravel() for layer_ND in centred]
        stacked = np.stack(products)
        sums_LL += stacked @ stacked.T
    norm_L = np.sqrt(np.diagonal(sums_LL))
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums_LL / np.outer(norm_L, norm_L)
