"""The same encoder in fp32, beside one in another precision.

Shapes: L layers, S sentences, D dimensions.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import psutil
import torch
from torch import Tensor

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.layer_encoder import Progress, RwkvEncoder
from rwkv_sweep.models.common.interface import Network
from rwkv_sweep.models.loading import load_model, model_source

REFERENCE = PrecisionConfig("fp32", "float32")


MEMORY_SHARE = 0.9
"""Share of the free memory that the fp32 weights may take."""


@dataclass(frozen=True)
class ReferenceEncoder(RwkvEncoder):
    """The same encoder in fp32. Its weights are loaded only when something must be encoded, and let go after.

    `loaded` is that of the other precision but for its kernel tags, so that what is in the store is found without
    loading anything.
    """

    model: ModelConfig | None = None

    @classmethod
    def beside(cls, encoder: RwkvEncoder, model: ModelConfig) -> ReferenceEncoder:
        """The reference of `encoder`, whose weights `model` names."""
        tags = model_source(model).tags(encoder.loaded.model, REFERENCE, encoder.device)
        values = {field.name: getattr(encoder, field.name) for field in fields(encoder)}
        return cls(**{**values, "loaded": replace(encoder.loaded, kernel_tags=tags)}, model=model)

    def encode(
        self, sentences: Sequence[str], layers: Sequence[int], poolings: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """As `RwkvEncoder.encode`."""
        assert self.model is not None
        values = {field.name: getattr(self, field.name) for field in fields(RwkvEncoder)}
        encoder = RwkvEncoder(**{**values, "loaded": load_model(self.model, REFERENCE, self.device)})
        try:
            return encoder.encode(sentences, layers, poolings, progress)
        finally:
            del encoder, values
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def is_reference(precision: PrecisionConfig) -> bool:
    """Whether this is fp32 itself, which the others are held against."""
    return (precision.base, precision.quantization) == (REFERENCE.base, REFERENCE.quantization)


def why_no_reference(model: Network, device: torch.device) -> str | None:
    """Why this model cannot be loaded in fp32 beside the one that is there; None where it can."""
    needed = 4 * model.parameter_count()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed <= MEMORY_SHARE * free:
        return None
    return f"fp32 weights of {needed / 2**30:.1f} GiB do not fit into the {free / 2**30:.1f} GiB that are free"
