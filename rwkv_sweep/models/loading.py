"""From a model config to the model it names: the one place that asks of which kind that is."""

from __future__ import annotations

import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig, require_one_of
from rwkv_sweep.data.corpus import Corpus
from rwkv_sweep.models.common.interface import LoadedModel, ModelSource
from rwkv_sweep.models.random_source import RandomModel
from rwkv_sweep.models.rwkv_sources import EmbeddingRwkv, HubModel, LocalModel, PackagedModel
from rwkv_sweep.models.transformers.source import TransformersModel

SOURCES: dict[str, type[ModelSource]] = {
    "assets": PackagedModel,
    "hub": HubModel,
    "local": LocalModel,
    "random": RandomModel,
    "embedding_rwkv": EmbeddingRwkv,
    "hf": TransformersModel,
}
"""By `model.source`."""


def model_source(cfg: ModelConfig) -> ModelSource:
    """The model that a config names, before anything of it is read.

    Raises:
        UserError: `model.source` is unknown.
    """
    require_one_of("model.source", cfg.source, tuple(SOURCES))
    return SOURCES[cfg.source](cfg)


def load_model(
    cfg: ModelConfig, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None = None
) -> LoadedModel:
    """Load weights and tokenizer, convert to the precision, move to the device.

    calibration: see `ModelSource.load`.

    Raises:
        UserError, UnsupportedError: see `ModelSource.load`.
    """
    return model_source(cfg).load(precision, device, calibration)
