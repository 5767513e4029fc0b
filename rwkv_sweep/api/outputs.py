"""What becomes of finished vectors before a caller gets them, under the names that sentence-transformers has.

Shapes: S sentences, D dimensions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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


def normalized(vectors_SD: np.ndarray) -> np.ndarray:
    """Every vector at length 1; a zero vector stays zero."""
    # By its largest value first, so that no square overflows or vanishes.
    largest_S1 = np.abs(vectors_SD).max(1, keepdims=True, initial=0)
    vectors_SD = vectors_SD / np.where(largest_S1 == 0, 1, largest_S1)
    length_S1 = np.linalg.norm(vectors_SD, axis=1, keepdims=True)
    unit_SD: np.ndarray = vectors_SD / np.where(length_S1 == 0, 1, length_S1)
    return unit_SD
