"""The same encoder in fp32, beside one in another precision.

Shapes: L layers, S sentences, D dimensions.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import psutil
import torch
from torch import Tensor

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.layer_encoder import Progress, RwkvEncoder
from rwkv_sweep.models.common.interface import LoadedModel, Network
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.models.resident_model import ResidentModel

REFERENCE = PrecisionConfig("fp32", "float32")


MEMORY_SHARE = 0.9
"""Share of the free memory that the fp32 weights may take."""
KEPT_SHARE = 0.5
"""Share of a GPU's memory that must be free beside both models for the fp32 weights to stay."""


class ResidentReference:
    """The fp32 weights, which on a GPU with memory to spare stay for the next precision's job.

    On a CPU they are let go: the process's peak memory is that of a run.

    Attributes:
        allocated_bytes: what they take on the GPU now.
    """

    def __init__(self) -> None:
        self._model = ResidentModel()
        self.allocated_bytes = 0

    @contextlib.contextmanager
    def loaded(self, model: ModelConfig, device: torch.device) -> Iterator[LoadedModel]:
        """The model that `model` names, in fp32 on `device`, within the block.

        Raises:
            UserError, UnsupportedError: see `ModelSource.load`.
        """
        if device.type != "cuda":
            try:
                yield load_model(model, REFERENCE, device)
            finally:
                gc.collect()
            return
        before = torch.cuda.memory_allocated(device) - self.allocated_bytes
        reference = self._model.load(model, REFERENCE, device)
        self.allocated_bytes = max(0, torch.cuda.memory_allocated(device) - before)
        try:
            yield reference
        finally:
            gc.collect()
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info(device)
            if free < KEPT_SHARE * total:
                self.release()

    def release(self) -> None:
        """Let the weights go."""
        self._model.release()
        self.allocated_bytes = 0

    def why_not(self, model: Network, device: torch.device) -> str | None:
        """Why this model cannot be had in fp32 beside the one that is there; None where it can."""
        return None if self.allocated_bytes else why_no_reference(model, device)


@dataclass(frozen=True)
class ReferenceEncoder(RwkvEncoder):
    """The same encoder in fp32. Its weights are loaded only when something must be encoded.

    `loaded` is that of the other precision but for its kernel tags, so that what is in the store is found without
    loading anything.
    """

    model: ModelConfig | None = None
    reference: ResidentReference = field(default_factory=ResidentReference)

    @classmethod
    def beside(
        cls, encoder: RwkvEncoder, model: ModelConfig, reference: ResidentReference | None = None
    ) -> ReferenceEncoder:
        """The reference of `encoder`, whose weights `model` names. reference: where they may be already."""
        tags = model_source(model).tags(encoder.loaded.model, REFERENCE, encoder.device)
        values = {field.name: getattr(encoder, field.name) for field in fields(encoder)}
        loaded = replace(encoder.loaded, kernel_tags=tags)
        return cls(**{**values, "loaded": loaded}, model=model, reference=reference or ResidentReference())

    def encode(
        self, sentences: Sequence[str], layers: Sequence[int], poolings: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """As `RwkvEncoder.encode`."""
        assert self.model is not None
        values = {field.name: getattr(self, field.name) for field in fields(RwkvEncoder)}
        with self.reference.loaded(self.model, self.device) as loaded:
            return RwkvEncoder(**{**values, "loaded": loaded}).encode(sentences, layers, poolings, progress)


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
