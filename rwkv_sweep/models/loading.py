"""From a model config to a model that is ready to run, with its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from rwkv_sweep.config import ModelConfig, PrecisionConfig, require_one_of
from rwkv_sweep.devices import keep_freed_memory
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.blocks import Block
from rwkv_sweep.models.checkpoint import fingerprint, read_shape, read_weights
from rwkv_sweep.models.fused import stack_projections
from rwkv_sweep.models.initialize import initialize
from rwkv_sweep.models.paths import path_tags
from rwkv_sweep.models.precision import apply_precision, check_precision
from rwkv_sweep.models.rwkv6 import Rwkv6Config, Rwkv6ForCausalLM, Rwkv6Model
from rwkv_sweep.models.tokenizer import Tokenizer, load_tokenizer
from rwkv_sweep.models.weight_files import CONFIG_FILE, weight_files

ASSETS = Path(__file__).parent.parent / "assets" / "model"
SOURCES = ("assets", "hub", "local", "random")
RANDOM_SEED = 0


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
    model: Rwkv6Model
    tokenizer: Tokenizer
    trained: bool
    fingerprint: str
    kernel_tags: dict[str, str]


def model_shape(cfg: ModelConfig) -> Rwkv6Config:
    """The model's sizes, without its weights (of a hub model, config.json alone is fetched).

    Raises:
        UserError: the model is not there, cannot be reached, or is no RWKV-6.
    """
    if cfg.source == "random":
        return _random_shape(cfg)
    return read_shape(_located(cfg, need_weights=False))


def check_model(cfg: ModelConfig) -> Rwkv6Config:
    """Everything about a model that can be refused before a run: its files, tensors and tokenizer. Returns its sizes.

    Reads the weights once (mapped, not copied) and lets them go.

    Raises:
        UserError: see `read_weights` and `load_tokenizer`.
    """
    if cfg.source == "random":
        shape = _random_shape(cfg)
        load_tokenizer(cfg.tokenizer or "bytes", None, shape.vocab_size)
        return shape
    path = _located(cfg, need_weights=True)
    shape, _ = read_weights(path)
    load_tokenizer(cfg.tokenizer, path if path.is_dir() else None, shape.vocab_size)
    return shape


def identify_model(cfg: ModelConfig) -> tuple[str, str]:
    """Fingerprints of weights (see `LoadedModel`) and tokenizer, without loading the weights.

    Raises:
        UserError: the model is not there, cannot be reached, or is no RWKV-6.
    """
    if cfg.source == "random":
        shape = _random_shape(cfg)
        tokenizer = load_tokenizer(cfg.tokenizer or "bytes", None, shape.vocab_size)
        return _random_fingerprint(shape), tokenizer.fingerprint
    path = _located(cfg, need_weights=True)
    tokenizer = load_tokenizer(cfg.tokenizer, path if path.is_dir() else None, read_shape(path).vocab_size)
    return fingerprint(path), tokenizer.fingerprint


def load_model(cfg: ModelConfig, precision: PrecisionConfig, device: torch.device) -> LoadedModel:
    """Load weights and tokenizer, convert to the precision, move to the device.

    Raises:
        UserError: see `model_shape`, `read_weights`, `load_tokenizer` and `check_precision`; the cheap checks come
            before the weights are read.
    """
    check_precision(precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    if cfg.source == "random":
        shape = _random_shape(cfg)
        tokenizer = load_tokenizer(cfg.tokenizer or "bytes", None, shape.vocab_size)
        model, print_ = _random_model(shape), _random_fingerprint(shape)
    else:
        path = _located(cfg, need_weights=True)
        tokenizer = load_tokenizer(cfg.tokenizer, path if path.is_dir() else None, read_shape(path).vocab_size)
        model, print_ = _embedding_model(path), fingerprint(path)
    tags = apply_precision(model, precision, device)
    blocks = cast(Sequence[Block], model.blocks)
    if device.type == "cuda":
        stack_projections(blocks)
    tags |= path_tags(blocks, device)
    return LoadedModel(cfg.name, model.eval(), tokenizer, cfg.source != "random", print_, tags)


def load_causal_lm(path: Path) -> Rwkv6ForCausalLM:
    """The language model at `path` (folder or .pth), in fp32 on the CPU, in eval mode, its parameters trainable.

    Raises:
        UserError: see `read_weights`.
    """
    shape, tensors = read_weights(path)
    with torch.device("meta"):
        model = Rwkv6ForCausalLM(shape)
    _assign(model, {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()})
    return model.eval()


def _embedding_model(path: Path) -> Rwkv6Model:
    """The blocks in the dtype of the file, still mapped from it; the head was checked with the rest and is left out."""
    shape, tensors = read_weights(path)
    with torch.device("meta"):
        model = Rwkv6Model(shape)
    prefix = "rwkv."
    _assign(model, {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)})
    return model


def _assign(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Make the tensors the parameters of a model built on the meta device: no second copy, no initialization."""
    model.load_state_dict(tensors, strict=True, assign=True)


def _random_model(shape: Rwkv6Config) -> Rwkv6Model:
    with torch.device("meta"):
        model = Rwkv6Model(shape)
    model.to_empty(device="cpu")
    initialize(model, RANDOM_SEED, zero_outputs=False)
    return model


def _random_fingerprint(shape: Rwkv6Config) -> str:
    """Seed and sizes stand for the weights they give."""
    sizes = (shape.hidden_size, shape.num_hidden_layers, shape.head_size, shape.intermediate_size, shape.vocab_size)
    return hashlib.sha256(repr(("random", RANDOM_SEED, *sizes)).encode()).hexdigest()[:16]


def _random_shape(cfg: ModelConfig) -> Rwkv6Config:
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
    hidden_size, head_size = sizes["hidden_size"] or 0, sizes["head_size"] or 0
    if hidden_size % head_size:
        raise UserError(f"model.hidden_size={hidden_size} is not a multiple of model.head_size={head_size}")
    return Rwkv6Config(
        vocab_size=sizes["vocab_size"] or 0,
        hidden_size=hidden_size,
        num_hidden_layers=sizes["num_blocks"] or 0,
        head_size=head_size,
        intermediate_size=sizes["intermediate_size"],
    )


def _located(cfg: ModelConfig, need_weights: bool) -> Path:
    require_one_of("model.source", cfg.source, SOURCES)
    if cfg.source == "hub":
        return _hub_folder(cfg, need_weights)
    if cfg.source == "local":
        if not cfg.path:
            raise UserError(
                f"model.path={cfg.path} must be given with model.source=local: "
                f"a folder with {CONFIG_FILE} and weights, or a .pth file"
            )
        return Path(cfg.path).expanduser()
    if not ASSETS.is_dir():
        raise UserError(
            f"model.source=assets, but no model lies in {ASSETS}: take another, such as model=local model.path=<folder "
            "or .pth file>, or model=random"
        )
    return ASSETS


def _hub_folder(cfg: ModelConfig, need_weights: bool) -> Path:
    """The model's folder in the hub's local cache: what is there is used, the rest is fetched."""
    from huggingface_hub import snapshot_download

    if not cfg.id:
        raise UserError("model.id must be given with model.source=hub, such as RWKV/v6-Finch-1B6-HF")
    wanted = [CONFIG_FILE, "tokenizer.json"]
    steps = [["model*.safetensors*"], ["pytorch_model*.bin*"]] if need_weights else [[]]
    reason: Exception | None = None
    for offline in (True, False):
        for weights in steps:
            patterns = wanted + weights
            try:
                folder = Path(
                    snapshot_download(cfg.id, revision=cfg.revision, allow_patterns=patterns, local_files_only=offline)
                )
            except Exception as error:  # the HTTP libraries below have errors of their own, others in each version
                reason = error
                break
            reason = None
            if _complete(folder, need_weights):
                return folder
    raise UserError(_unreachable(cfg, reason))


def _complete(folder: Path, need_weights: bool) -> bool:
    """Whether a cached folder holds what is needed: an earlier run may have fetched config.json alone."""
    if not (folder / CONFIG_FILE).is_file():
        return False
    try:
        return not need_weights or bool(weight_files(folder))
    except UserError:
        return False


def _unreachable(cfg: ModelConfig, reason: Exception | None) -> str:
    lines = str(reason).strip().splitlines() if reason else []
    why = f"{type(reason).__name__}: {lines[0]}" if lines else "it holds no weights that can be read"
    return (
        f"model.id={cfg.id} at revision {cfg.revision or 'main'} is not in the local cache and could not be fetched "
        f"from the Hugging Face hub ({why}). Without the hub, copy its {CONFIG_FILE} and pytorch_model.bin (or "
        "model.safetensors) into a folder and run with model=local model.path=<that folder> model.tokenizer=world"
    )
