"""Cosines of vectors that a caller brings: arrays, tensors or lists, of any number format that has a cosine.

Shapes: A and B vectors of D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.api.outputs import normalized
from rwkv_sweep.errors import UserError


def similarity(first: Any, second: Any, packed: int | None = None) -> np.ndarray | Tensor:
    """Cosine of each of the first, [A, D] or [D], with each of the second, [B, D] or [D]: [A, B].

    In float32, or float64 where a vector is; a tensor if one of the two is. A zero vector has cosine 0.

    Args:
        packed: length of vectors whose bits are packed; int8 vectors of this length are taken for such, and refused.

    Raises:
        TypeError, UserError: see `_matrix`; or vectors of different lengths.
    """
    one_AD, other_BD = _matrix(first, "embeddings1", packed), _matrix(second, "embeddings2", packed)
    if one_AD.shape[1] != other_BD.shape[1]:
        raise UserError(
            f"embeddings1 has {one_AD.shape[1]} dimensions, embeddings2 {other_BD.shape[1]}: valid are as many in both"
        )
    return _like(normalized(one_AD) @ normalized(other_BD).T, first, second)


def similarity_pairwise(first: Any, second: Any, packed: int | None = None) -> np.ndarray | Tensor:
    """Cosine of each of the first with the same one of the second, both [A, D] or [D]: [A]; else as `similarity`."""
    one_AD, other_AD = _matrix(first, "embeddings1", packed), _matrix(second, "embeddings2", packed)
    if one_AD.shape != other_AD.shape:
        raise UserError(
            f"embeddings1 is {list(one_AD.shape)}, embeddings2 {list(other_AD.shape)}: valid are equal shapes; "
            "similarity compares each with each"
        )
    return _like((normalized(one_AD) * normalized(other_AD)).sum(1), first, second)


def _matrix(vectors: Any, name: str, packed: int | None) -> np.ndarray:
    """[A, D] float32 or float64.

    Raises:
        TypeError: what holds no numbers, or uint8, in which numbers are shifted or bits are packed.
        UserError: another shape; NaN or infinity.
    """
    if isinstance(vectors, (list, tuple)) and any(isinstance(row, Tensor) for row in vectors):
        vectors = torch.stack([torch.as_tensor(row) for row in vectors])
    if isinstance(vectors, Tensor):
        vectors = vectors.detach().cpu()
        vectors = (vectors.float() if vectors.is_floating_point() and vectors.element_size() < 4 else vectors).numpy()
    try:
        array = np.asarray(vectors)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{name} is no matrix ({error}): valid are vectors of one length") from error
    bits = array.dtype == np.int8 and array.ndim and array.shape[-1] == packed
    if array.dtype.kind not in "fi" or bits:
        raise TypeError(
            f"{name} is of {array.dtype}: valid are float32 and other floats, and int8; uint8 and packed bits have no "
            "cosine"
        )
    if array.ndim not in (1, 2):
        raise UserError(f"{name} is {list(array.shape)}: valid are one vector [D] or several [S, D]")
    matrix = np.atleast_2d(array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32, copy=False))
    if not (finite := np.isfinite(matrix).all(1)).all():
        raise UserError(f"{name} holds NaN or infinity in row {int(np.argmin(finite))}: valid are finite numbers")
    return matrix


def _like(cosines: np.ndarray, *given: Any) -> np.ndarray | Tensor:
    flat = [row for item in given for row in (item[:1] if isinstance(item, (list, tuple)) else [item])]
    device = next((item.device for item in flat if isinstance(item, Tensor)), None)
    return cosines if device is None else torch.from_numpy(cosines).to(device)
