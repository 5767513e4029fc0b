"""The range of each dimension, which vectors of 8 bits need: of texts given beforehand, never of those of a call.

Shapes: S texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.output_formats import NEED_RANGES, ranges


class Calibration:
    """Ranges over the corpus of an encoder, found once for each way to embed it."""

    def __init__(self, corpus: Texts | None) -> None:
        self._corpus = corpus
        self._ranges: dict[object, np.ndarray] = {}

    def ranges(self, precision: str, way: object, embed: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray | None:
        """[2, D] smallest and largest values; None for a precision that needs none.

        Args:
            precision: of the vectors, see `rwkv_sweep.evaluation.output_formats.quantized`.
            way: all that decides what `embed` gives for a text.
            embed: texts to vectors [S, D].

        Raises:
            UserError: there is no corpus.
        """
        if precision not in NEED_RANGES:
            return None
        if self._corpus is None:
            raise UserError(
                f"precision={precision} needs texts that show each dimension's range: give the encoder a list of them, "
                "Encoder.from_config(..., corpus=TEXTS), or take binary or ubinary; the range of the sentences of a "
                "call would make their vectors depend on each other"
            )
        if way not in self._ranges:
            self._ranges[way] = ranges(embed(list(self._corpus)))
        return self._ranges[way]
