"""From a model config to a model that is ready to run, with its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.hardware.devices import keep_freed_memory
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.common.shape import Shape, too_large
from rwkv_sweep.models.generations import GENERATIONS, RwkvConfig, generation_of
from rwkv_sweep.models.pretrained.locate import MODEL, located
from rwkv_sweep.models.pretrained.mismatched_tokenizer import foreign_tokenizer
from rwkv_sweep.models.pretrained.tokenizers import Tokenizer, load_tokenizer
from rwkv_sweep.models.pretrained.weight_files import fingerprint
from rwkv_sweep.models.quantization import apply_precision, check_precision, kernel_tags
from rwkv_sweep.models.transformers.loading import HF, check_hf, hf_folder, hf_tags, hf_tokenizer, load_hf
from rwkv_sweep.models.transformers.network import HfNetwork

__all__ = [
    "MODEL",
    "LoadedModel",
    "Network",
    "check_model",
    "identify_model",
    "load_model",
    "model_shape",
    "running_tags",
]

RANDOM_SEED = 0
DEFAULT_GENERATION = 6
"""Of `model.source=random` where `model.generation` leaves it open."""

Network = RwkvModel | HfNetwork


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        name: `model.name` of the config.
        model: in eval mode, without gradients, on its device and in its precision.
        tokenizer: fits the model's embedding table.
        trained: False for random weights, whose quality means nothing.
        fingerprint: 16 hex digits of the SHA-256 of weights and config as stored, before the precision.
        kernel_tags: what runs, see `apply_precision`.
    """

    name: str
    model: Network
    tokenizer: Tokenizer
    trained: bool
    fingerprint: str
    kernel_tags: dict[str, str]

    def depth(self, layers: Sequence[int]) -> int:
        """Blocks that a forward for these layers runs."""
        return self.model.depth(layers)


def model_shape(cfg: ModelConfig) -> Shape:
    """The model's sizes, without its weights (of an RWKV-6 on the hub, config.json alone is fetched).

    Raises:
        UserError: the model is not there, cannot be reached, or is no RWKV-6.
    """
    if cfg.source == HF:
        return check_hf(cfg)
    if cfg.source == "random":
        return _random_shape(cfg)
    path = located(cfg, need_weights=False)
    return generation_of(path).read_shape(path)


def check_model(cfg: ModelConfig) -> Shape:
    """Everything about a model that can be refused before a run: its files, tensors and tokenizer. Returns its sizes.

    Reads the weights once (mapped, not copied) and lets them go.

    Raises:
        UserError: see `read_weights`, `load_tokenizer`, `foreign_tokenizer` and `check_hf`.
    """
    if cfg.source == HF:
        return check_hf(cfg)
    if cfg.source == "random":
        shape = _random_shape(cfg)
        _tokenizer(cfg, None, shape.vocab_size)
        return shape
    path = located(cfg, need_weights=True)
    shape, _ = generation_of(path).read_weights(path)
    _tokenizer(cfg, path, shape.vocab_size)
    return shape


def identify_model(cfg: ModelConfig) -> tuple[str, str]:
    """Fingerprints of weights (see `LoadedModel`) and tokenizer, without loading the weights.

    Raises:
        UserError: the model is not there, cannot be reached, or is no RWKV-6.
    """
    if cfg.source == HF:
        folder = hf_folder(cfg)
        return fingerprint(folder), hf_tokenizer(cfg, folder).fingerprint
    if cfg.source == "random":
        shape = _random_shape(cfg)
        return _random_fingerprint(cfg, shape), _tokenizer(cfg, None, shape.vocab_size).fingerprint
    path = located(cfg, need_weights=True)
    return fingerprint(path), _tokenizer(cfg, path, generation_of(path).read_shape(path).vocab_size).fingerprint


def load_model(cfg: ModelConfig, precision: PrecisionConfig, device: torch.device) -> LoadedModel:
    """Load weights and tokenizer, convert to the precision, move to the device.

    Raises:
        UserError: see `model_shape`, `read_weights`, `load_tokenizer` and `check_precision`; the cheap checks come
            before the weights are read.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if cfg.source == HF:
        network, own, tags = load_hf(cfg, precision, device)
        return LoadedModel(cfg.name, network, own, True, fingerprint(hf_folder(cfg)), tags)
    check_precision(precision, device)
    if cfg.source == "random":
        shape = _random_shape(cfg)
        tokenizer = _tokenizer(cfg, None, shape.vocab_size)
        model = GENERATIONS[cfg.generation or DEFAULT_GENERATION].draw(shape, RANDOM_SEED, device)
        print_ = _random_fingerprint(cfg, shape)
    else:
        path = located(cfg, need_weights=True)
        generation = generation_of(path)
        tokenizer = _tokenizer(cfg, path, generation.read_shape(path).vocab_size)
        model, print_ = generation.load(path), fingerprint(path)
    apply_precision(model, precision, device)
    model.prepare(device)
    model.full_depth, model.rescale_every = cfg.full_depth, cfg.rescale_every
    tags = running_tags(model, precision, device)
    return LoadedModel(cfg.name, model.eval(), tokenizer, cfg.source != "random", print_, tags)


def running_tags(model: Network, precision: PrecisionConfig, device: torch.device) -> dict[str, str]:
    """What runs a loaded model, or would run it in another precision, in words."""
    if isinstance(model, HfNetwork):
        return hf_tags(model, precision)
    tags = kernel_tags(precision, device) | model.path_tags(device)
    if model.full_depth:
        tags["full_depth"] = "every layer runs all blocks"
    if model.rescale_every:
        tags["rescale_every"] = f"the stream is handed over halved after each {model.rescale_every} blocks"
    return tags


def _tokenizer(cfg: ModelConfig, path: Path | None, table_size: int) -> Tokenizer:
    """path: of the weights; None for random ones, which any tokenizer fits."""
    if cfg.foreign_tokenizer is not None:
        return foreign_tokenizer(cfg, table_size)
    if path is None:
        return load_tokenizer(cfg.tokenizer or "bytes", None, table_size)
    return load_tokenizer(cfg.tokenizer, path if path.is_dir() else None, table_size)


def _random_fingerprint(cfg: ModelConfig, shape: RwkvConfig) -> str:
    """Seed, generation and sizes stand for the weights they give."""
    sizes = (shape.hidden_size, shape.num_hidden_layers, shape.head_size, shape.intermediate_size, shape.vocab_size)
    kind = "random" if cfg.generation in (None, DEFAULT_GENERATION) else f"random, generation {cfg.generation}"
    return hashlib.sha256(repr((kind, RANDOM_SEED, *sizes)).encode()).hexdigest()[:16]


def _random_shape(cfg: ModelConfig) -> RwkvConfig:
    if cfg.generation not in (None, *GENERATIONS):
        raise UserError(f"model.generation={cfg.generation} is not known: valid are {', '.join(map(str, GENERATIONS))}")
    generation = GENERATIONS[cfg.generation or DEFAULT_GENERATION]
    sizes = {
        "hidden_size": cfg.hidden_size,
        "num_blocks": cfg.num_blocks,
        "head_size": cfg.head_size,
        "intermediate_size": cfg.intermediate_size,
        "vocab_size": cfg.vocab_size,
    }
    for key, value in sizes.items():
        if value is None or value < 1:
            raise UserError(f"model.source=random needs model.{key}, which is {value}: valid is a number from 1 on")
    if message := too_large({key: value for key, value in sizes.items() if value is not None}):
        raise UserError(f"model.{message}")
    hidden_size, head_size = sizes["hidden_size"] or 0, sizes["head_size"] or 0
    if hidden_size % head_size:
        raise UserError(f"model.hidden_size={hidden_size} is not a multiple of model.head_size={head_size}")
    names = {"num_blocks": "num_hidden_layers"}
    return generation.random_config({names.get(key, key): size or 0 for key, size in sizes.items()})
