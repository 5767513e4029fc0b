"""An RWKV of random weights, of any generation and size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.data.corpus import Corpus
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.common.interface import LoadedModel
from rwkv_sweep.models.common.shape import RwkvShape, too_large
from rwkv_sweep.models.generations import DEFAULT_GENERATION, GENERATIONS
from rwkv_sweep.models.pretrained.tokenizers import Tokenizer
from rwkv_sweep.models.quantization import check_precision
from rwkv_sweep.models.rwkv_sources import RwkvSource

RANDOM_SEED = 0


class RandomModel(RwkvSource):
    """Random weights of given sizes, for measuring speed. Any tokenizer fits them."""

    copied_source = "random"

    def shape(self) -> RwkvShape:
        """See `ModelSource.shape`.

        Raises:
            UserError: a size that is not given or cannot be, or an unknown generation.
        """
        return self._generation().random_config(self._sizes())

    def check(self) -> RwkvShape:
        """See `ModelSource.check`."""
        shape = self.shape()
        self._any_tokenizer(shape)
        return shape

    def files(self) -> list[Path]:
        """See `ModelSource.files`."""
        spec = self.cfg.tokenizer
        return [] if spec in (None, "world", "bytes") else [Path(spec).expanduser()]

    def fingerprints(self) -> tuple[str, str]:
        """See `ModelSource.fingerprints`: seed, generation and sizes stand for the weights they give."""
        shape = self.shape()
        return self._weights_fingerprint(shape), self._any_tokenizer(shape).fingerprint

    def _load(self, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None) -> LoadedModel:
        check_precision(precision, device)
        shape = self.shape()
        tokenizer = self._any_tokenizer(shape)
        model = self._generation().draw(shape, RANDOM_SEED, device)
        digest = self._weights_fingerprint(shape)
        return self._ready(model, tokenizer, lambda: digest, precision, device, calibration, False, {})

    def _generation(self) -> Generation:
        number = DEFAULT_GENERATION if self.cfg.generation is None else self.cfg.generation
        if number not in GENERATIONS:
            raise UserError(f"model.generation={number} is not known: valid are {', '.join(map(str, GENERATIONS))}")
        return GENERATIONS[number]

    def _any_tokenizer(self, shape: RwkvShape) -> Tokenizer:
        spec = "bytes" if self.cfg.tokenizer is None else self.cfg.tokenizer
        return self._tokenizer(spec, None, shape.vocab_size)

    def _weights_fingerprint(self, shape: RwkvShape) -> str:
        number = self._generation().number
        sizes = (shape.hidden_size, shape.num_hidden_layers, shape.head_size, shape.intermediate_size, shape.vocab_size)
        kind = "random" if number == DEFAULT_GENERATION else f"random, generation {number}"
        return hashlib.sha256(repr((kind, RANDOM_SEED, *sizes)).encode()).hexdigest()[:16]

    def _sizes(self) -> dict[str, int]:
        """Under the names that `Generation.random_config` takes."""
        sizes = {key: _required_size(self.cfg, key) for key in SIZES}
        if message := too_large(sizes):
            raise UserError(f"model.{message}")
        if sizes["hidden_size"] % sizes["head_size"]:
            raise UserError(
                f"model.hidden_size={sizes['hidden_size']} is not a multiple of model.head_size={sizes['head_size']}"
            )
        return {SIZES[key]: size for key, size in sizes.items()}


SIZES = {
    "hidden_size": "hidden_size",
    "num_blocks": "num_hidden_layers",
    "head_size": "head_size",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""Keys of `model` that give the sizes of random weights, and their names in a network's config."""


def _required_size(cfg: ModelConfig, key: str) -> int:
    size: int | None = getattr(cfg, key)
    if size is None or size < 1:
        raise UserError(f"model.source=random needs model.{key}, which is {size}: valid is a number from 1 on")
    return size
