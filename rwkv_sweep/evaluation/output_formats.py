"""Smaller forms of finished vectors: what they take on disk, and what they are worth when they are compared.

Shapes: S sentences, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.config.schema import require_one_of
from rwkv_sweep.config.validation import truncated_to
from rwkv_sweep.errors import UserError

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
NEED_RANGES = ("int8", "uint8")
"""Precisions whose steps are those of a range of each dimension, which other texts must give."""


@dataclass(frozen=True)
class OutputFormat:
    """What vectors are stored as.

    Attributes:
        name: `float32`, `float16`, `int8`, `binary`, or `truncate_N`.
        ranges_2D: for `int8`, see `ranges`.
    """

    name: str
    ranges_2D: np.ndarray | None = None

    def restored(self, vectors_SD: np.ndarray) -> np.ndarray:
        """Vectors as they are read back from this form, for comparison by cosine. Of `binary` the signs: their cosine
        is 1 - 2 * (Hamming distance) / D.

        Raises:
            UserError: fewer dimensions than `truncate_N` keeps.
        """
        size = truncated_to(self.name)
        if size is not None:
            check_size(self.name, vectors_SD.shape[1])
            return vectors_SD[:, :size]
        if self.name == "float16":
            # Beyond fp16's range there is no smaller form: infinite scores are refused where they are judged.
            with np.errstate(over="ignore"):
                return vectors_SD.astype(np.float16).astype(np.float32)
        if self.name == "int8":
            assert self.ranges_2D is not None
            return restored_int8(quantized(vectors_SD, "int8", self.ranges_2D), self.ranges_2D)
        if self.name == "binary":
            bits = np.unpackbits(quantized(vectors_SD, "ubinary", None), axis=-1, count=vectors_SD.shape[1])
            return np.where(bits == 1, np.float32(1), np.float32(-1))
        return vectors_SD

    def dimension(self, size: int) -> int:
        """Of a vector of `size` dimensions as it is read back."""
        return truncated_to(self.name) or size


FLOAT32 = OutputFormat("float32")
"""Vectors as they are."""


def fitted_format(name: str, fitting_vectors: Callable[[], np.ndarray]) -> OutputFormat:
    """The form `name`. fitting_vectors: [S, D] of sentences that are not scored, asked for only where it is fitted."""
    return OutputFormat(name, ranges(fitting_vectors()) if name == "int8" else None)


def vector_bytes(name: str, dimension: int) -> int:
    """Bytes of one vector of D dimensions in this form; ranges, which all vectors share, are not counted."""
    size = truncated_to(name)
    if size is not None:
        return 4 * size
    return {"float32": 4 * dimension, "float16": 2 * dimension, "int8": dimension, "binary": -(-dimension // 8)}[name]


def check_size(name: str, dimension: int) -> None:
    """Raises UserError where `truncate_N` keeps no fewer dimensions than a vector has."""
    size = truncated_to(name)
    if size is not None and size >= dimension:
        raise UserError(
            f"output={name} of vectors with {dimension} dimensions: valid is truncate_1 to truncate_{dimension - 1}"
        )


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


def restored_int8(steps_SD: np.ndarray, ranges_2D: np.ndarray) -> np.ndarray:
    """The middle of the step of each dimension that `int8` vectors stand for, float32 [S, D]."""
    step_D = (ranges_2D[1] - ranges_2D[0]) / 255
    restored_SD: np.ndarray = ranges_2D[0] + (steps_SD.astype(np.float32) + 128.5) * step_D
    return restored_SD.astype(np.float32)
