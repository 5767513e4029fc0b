"""What `mlflow.pyfunc.load_model` loads of a run: texts in, vectors out.

Shapes: S texts, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rwkv_sweep.api.encoder import Encoder
from rwkv_sweep.errors import UserError


class TextModel:
    """An encoder with the method that MLflow calls."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def predict(self, texts: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """float32 [S, D] of S texts: a list, a column, or a data frame with one column.

        Raises:
            UserError: a data frame of several columns.
            TypeError, UserError: see `Encoder.encode`.
        """
        if hasattr(texts, "columns"):
            if len(texts.columns) != 1:
                names = ", ".join(map(str, texts.columns))
                raise UserError(f"the data frame has the columns {names}: valid is one, with the texts")
            texts = texts.iloc[:, 0]
        vectors_SD: np.ndarray = self.encoder.encode([texts] if isinstance(texts, str) else list(texts))
        return vectors_SD


def _load_pyfunc(path: str) -> TextModel:
    """MLflow's hook. path: of the model's folder."""
    return TextModel(Encoder.from_run(path))
