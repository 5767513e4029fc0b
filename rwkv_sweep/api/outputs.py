"""What becomes of finished vectors before a caller gets them, under the names that sentence-transformers has.

Shapes: S sentences, D dimensions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.config.schema import require_one_of

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
NEED_RANGES = ("int8", "uint8")
"""Precisions whose steps are those of a range of each dimension, which other texts must give."""


def finished(vectors_SD: np.ndarray, truncate_dim: int | None, normalize: bool) -> np.ndarray:
    """float32 [S, D']: the first `truncate_dim` dimensions, then scaled to length 1; a zero vector stays zero."""
    vectors_SD = vectors_SD[:, :truncate_dim].astype(np.float32, copy=False)
    if normalize:
        vectors_SD = normalized(vectors_SD)
    return np.ascontiguousarray(vectors_SD)


def as_array_or_tensor(
    vectors_SD: np.ndarray, to_numpy: bool, to_tensor: bool, device: torch.device
) -> np.ndarray | Tensor | list[Tensor]:
    """The vectors as an array, as one tensor on `device`, or as a list of tensors there."""
    if to_numpy and not to_tensor:
        return vectors_SD
    tensor_SD = torch.from_numpy(vectors_SD).to(device)
    return tensor_SD if to_tensor else list(tensor_SD)


def ranges(vectors_SD: np.ndarray) -> np.ndarray:
    """Smallest and largest value of each dimension, [2, D]."""
    return np.stack([vectors_SD.min(0), vectors_SD.max(0)])


def quantized(vectors_SD: np.ndarray, precision: str, ranges_2D: np.ndarray | None) -> np.ndarray:
    """Vectors in a smaller number format, as `sentence_transformers.util.quantize_embeddings` makes them.

    Args:
        vectors_SD: float32.
        precision: `int8` and `uint8` cut each dimension's range into 255 steps, and what lies outside is moved to its
            ends; `binary` (int8) and `ubinary` (uint8) keep of each dimension whether it is above 0, eight to a byte.
        ranges_2D: see `ranges`; of other texts than these, else a vector would depend on its neighbours.

    Returns:
        [S, D], or for `binary` and `ubinary` [S, ceil(D / 8)].
    """
    require_one_of("precision", precision, PRECISIONS)
    if precision == "float32":
        return vectors_SD
    if precision in NEED_RANGES:
        assert ranges_2D is not None
        start_D, step_D = ranges_2D[0], (ranges_2D[1] - ranges_2D[0]) / 255
        steps_SD = np.clip(np.floor((vectors_SD - start_D) / np.where(step_D == 0, 1, step_D)), 0, 255)
        return steps_SD.astype(np.uint8) if precision == "uint8" else (steps_SD - 128).astype(np.int8)
    bits = np.packbits(vectors_SD > 0, axis=-1)
    return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)


def handed_over(
    vectors_SD: np.ndarray, single: bool, convert_to_numpy: bool, convert_to_tensor: bool, device: torch.device
) -> np.ndarray | Tensor | list[Tensor]:
    """An array, a tensor or a list of tensors; of a single text its one vector."""
    if convert_to_tensor or not convert_to_numpy:
        tensor_SD = torch.from_numpy(vectors_SD).to(device)
        if single:
            return tensor_SD[0]
        return tensor_SD if convert_to_tensor else list(tensor_SD)
    return np.asarray(vectors_SD[0]) if single else vectors_SD


def normalized(vectors_SD: np.ndarray) -> np.ndarray:
    """Every vector at length 1; a zero vector stays zero."""
    # By its largest value first, so that no square overflows or vanishes.
    largest_S1 = np.abs(vectors_SD).max(1, keepdims=True, initial=0)
    vectors_SD = vectors_SD / np.where(largest_S1 == 0, 1, largest_S1)
    length_S1 = np.linalg.norm(vectors_SD, axis=1, keepdims=True)
    unit_SD: np.ndarray = vectors_SD / np.where(length_S1 == 0, 1, length_S1)
    return unit_SD
