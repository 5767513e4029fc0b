"""The module that `SentenceTransformer(FOLDER)` loads of an exported encoder; sentence-transformers itself is not
imported.

Shapes: S texts, D dimensions.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rwkv_sweep.api.encoder import Encoder
from rwkv_sweep.records.encoder_record import EncoderRecord

VECTORS = "sentence_embedding"
"""What sentence-transformers calls them."""
ITS_OWN = ("modules.json", "config_sentence_transformers.json", "README.md")
"""Files that sentence-transformers writes itself when it saves a model."""


class RwkvSentenceEncoder(nn.Module):
    """Texts to vectors, as one module of a SentenceTransformer; it cannot be trained.

    The model is loaded with the first texts, on the device that sentence-transformers has chosen by then. A text
    without tokens gets a vector of zeros.
    """

    _where: Tensor

    def __init__(self, folder: str | Path) -> None:
        """folder: of a run, or exported.

        Raises:
            UserError: see `EncoderRecord.load`.
        """
        super().__init__()
        self.folder = Path(folder)
        record = EncoderRecord.load(self.folder)
        self.max_seq_length: int = record.config["max_tokens"]
        self._size = record.dimension
        self._encoder: Encoder | None = None
        # Without parameters sentence-transformers would not know a device.
        self.register_buffer("_where", torch.empty(0), persistent=False)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **others: Any) -> RwkvSentenceEncoder:
        """The hook of sentence-transformers. others: about downloads, of which there are none."""
        return cls(Path(model_name_or_path) / subfolder)

    def save(self, output_path: str, *args: Any, **others: Any) -> None:
        """Copy the exported folder, without what sentence-transformers writes itself."""
        shutil.copytree(self.folder, output_path, ignore=shutil.ignore_patterns(*ITS_OWN), dirs_exist_ok=True)

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **others: Any) -> dict[str, Any]:
        """Texts as they are: tokens, and the batches in which they run, are the encoder's own. prompt: put before."""
        return {"texts": [(prompt or "") + text for text in inputs]}

    def tokenize(self, texts: Sequence[str], **others: Any) -> dict[str, Any]:
        """As `preprocess`, by the name that older versions call."""
        return self.preprocess(texts)

    def forward(self, features: dict[str, Any], **others: Any) -> dict[str, Any]:
        """Adds float32 [S, D]."""
        device = self._where.device
        if self._encoder is None or self._encoder.device.type != device.type:
            self._encoder = Encoder.from_run(self.folder, device=device.type)
        vectors_SD = self._encoder.encode(features["texts"], on_empty="zero", convert_to_tensor=True)
        return {**features, VECTORS: vectors_SD.to(device)}

    def get_sentence_embedding_dimension(self) -> int:
        """Length of a vector."""
        return self._size

    get_embedding_dimension = get_sentence_embedding_dimension

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.folder}, dimension={self._size})"
