"""Weight files to checked tensors under the names of `Rwkv6Lm`.

Two layouts are read: a Hugging Face folder (config.json, and safetensors or .bin, whole or in shards) and the original
.pth file, whose sizes are those of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.checkpoint_tensors import DTYPES, HEAD, check_finite, core, plain
from rwkv_sweep.models.common.shape import too_large
from rwkv_sweep.models.pretrained.other_networks import network_of, network_of_type, unwrapped
from rwkv_sweep.models.pretrained.weight_files import (
    CONFIG_FILE,
    few,
    fingerprint,
    read_folder,
    read_json,
    read_tensors,
)
from rwkv_sweep.models.rwkv6.network import Rwkv6Config, Rwkv6Lm
from rwkv_sweep.utils.console import log_line_once

__all__ = ["fingerprint", "read_shape", "read_weights"]

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "attention_hidden_size",
    "head_size",
    "head_size_divisor",
    "intermediate_size",
    "time_mix_extra_dim",
    "time_decay_extra_dim",
)
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers")
_ORIGINAL_NAMES = (
    ("emb.", "rwkv.embeddings."),
    ("ln_out.", "rwkv.ln_out."),
    ("blocks.", "rwkv.blocks."),
    (".ln0.", ".pre_ln."),
    (".att.", ".attention."),
    (".ffn.", ".feed_forward."),
)


def read_shape(path: Path) -> Rwkv6Config:
    """The sizes of the model at `path`: from config.json in a folder, from the tensors of a .pth file.

    No weights of a folder are opened, and those of a .pth file are mapped, not read.

    Raises:
        UserError: nothing is there, or it is not an RWKV-6 that can be read.
    """
    if path.is_dir():
        return _folder_config(path)
    return _original(path)[0]


def read_weights(path: Path) -> tuple[Rwkv6Config, dict[str, Tensor]]:
    """Sizes and all tensors, on the CPU in the dtype of the file, with the shapes of `Rwkv6Lm`.

    Embeddings need no head: where the file has no head.weight, there is none here, which is logged.

    Raises:
        UserError: nothing is there, a file is damaged or holds code, a tensor is missing, unexpected, of another shape
            or holds NaN or infinity.
    """
    if path.is_dir():
        config = _folder_config(path)
        tensors = _fitted(path, config, _bare(path, read_folder(path)))
    else:
        config, tensors = _original(path)
    given = {name: name if path.is_dir() else _to_original_name(name) for name in tensors}
    check_finite(path, tensors, given)
    return config, tensors


def _folder_config(folder: Path) -> Rwkv6Config:
    file = folder / CONFIG_FILE
    content = read_json(file)
    if content.get("model_type") != "rwkv6":
        kind = content.get("model_type")
        raise UserError(f"{file} has model_type={plain(kind)}, which is {network_of_type(kind)}")
    sizes = {key: content[key] for key in _SIZES if content.get(key) is not None}
    lacking = [key for key in _REQUIRED if key not in sizes]
    if lacking:
        raise UserError(f"{file} lacks {', '.join(lacking)}")
    for key, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{file} has {key}={plain(value)}: valid is a whole number from 1 on")
    epsilon = content.get("layer_norm_epsilon", 1e-5)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise UserError(
            f"{file} has layer_norm_epsilon={plain(epsilon)}: valid is a number between 0 and 1, such as 1e-05"
        )
    if message := too_large(sizes):
        raise UserError(f"{file} has {message}")
    return _divided(file, Rwkv6Config(**sizes, layer_norm_epsilon=epsilon))


def _divided(file: Path, config: Rwkv6Config) -> Rwkv6Config:
    if config.attention_hidden_size % config.head_size:
        raise UserError(
            f"{file} has attention_hidden_size={config.attention_hidden_size}, "
            f"which head_size={config.head_size} does not divide"
        )
    return config


def _original(path: Path) -> tuple[Rwkv6Config, dict[str, Tensor]]:
    """Config and tensors of an original .pth file, fitted to the model but not looked into."""
    tensors = {_to_model_name(name): tensor for name, tensor in _bare(path, read_tensors(path)).items()}
    config = _config_of(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return config, _fitted(path, config, tensors)


def _bare(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without what training programs put around their names, which is logged."""
    try:
        plain, removed = unwrapped(tensors)
    except ValueError as error:
        raise UserError(f"{path} holds a tensor twice: {error}") from error
    if removed:
        log_line_once(f"{path}: the names of its tensors are read without {' and '.join(removed)}")
    return plain


def _config_of(path: Path, shapes: dict[str, tuple[int, ...]]) -> Rwkv6Config:
    """Sizes as the tensors of block 0 show them; `head_size_divisor` leaves no trace there and is 8 in all RWKV-6."""
    block = "rwkv.blocks.0."
    names = {
        "embedding": "rwkv.embeddings.weight",
        "key": block + "attention.key.weight",
        "bonus": block + "attention.time_faaaa",
        "mix": block + "attention.time_maa_w1",
        "decay": block + "attention.time_decay_w1",
        "ffn": block + "feed_forward.key.weight",
    }
    lacking = [_to_original_name(name) for name in names.values() if len(shapes.get(name, ())) != 2]
    if lacking:
        if network := network_of(map(_to_original_name, shapes)):
            raise UserError(f"{path} holds {network}")
        raise UserError(f"{path} is not an original RWKV-6 checkpoint: it has no matrix {few(lacking)}")
    if empty := next((name for name in names.values() if 0 in shapes[name]), None):
        raise UserError(f"{path}: {_to_original_name(empty)} is empty, of shape {list(shapes[empty])}")
    sizes = {
        "vocab_size": shapes[names["embedding"]][0],
        "hidden_size": shapes[names["embedding"]][1],
        "num_hidden_layers": _count_blocks(path, shapes),
        "attention_hidden_size": shapes[names["key"]][0],
        "head_size": shapes[names["bonus"]][1],
        "intermediate_size": shapes[names["ffn"]][0],
        "time_mix_extra_dim": shapes[names["mix"]][1] // 5,
        "time_decay_extra_dim": shapes[names["decay"]][1],
    }
    if message := too_large(sizes):
        raise UserError(f"{path} has tensors for {message}")
    return _divided(path, Rwkv6Config(**sizes))


def _count_blocks(path: Path, names: Iterable[str]) -> int:
    """How many blocks the names are of: their numbers, as text, since they may have thousands of digits.

    Raises:
        UserError: they do not run from 0 on without a gap.
    """
    numbers = {match[1] for name in names if (match := re.match(r"rwkv\.blocks\.([^.]+)\.", name))}
    absent = next((str(number) for number in range(len(numbers)) if str(number) not in numbers), None)
    if absent is not None:
        last = max(numbers, key=lambda number: (len(number), number))
        raise UserError(f"{path} has tensors of blocks.{plain(last)}, but none of blocks.{absent}")
    return len(numbers)


def _fitted(path: Path, config: Rwkv6Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the shapes of the model: vectors may come as [D] or [1, 1, D].

    Raises:
        UserError: names, shapes or dtypes are not those of the model.
    """
    blocks = _count_blocks(path, tensors)
    if blocks == 0:
        network = network_of(tensors) or f"no tensor of a block of an RWKV-6, but {few(list(tensors)) or 'none at all'}"
        raise UserError(f"{path} holds {network}")
    # Before anything is built: 100,000 blocks take minutes.
    if blocks != config.num_hidden_layers:
        file, key = path / CONFIG_FILE, f"num_hidden_layers={config.num_hidden_layers}"
        raise UserError(f"{file} has {key}, but the weights have {blocks} blocks")
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in Rwkv6Lm(config).state_dict().items()}
    if HEAD not in tensors:
        del expected[HEAD]
    in_file = (lambda name: name) if path.is_dir() else _to_original_name
    missing = [in_file(name) for name in expected if name not in tensors]
    unexpected = [in_file(name) for name in tensors if name not in expected]
    wrong = [
        f"{in_file(name)} {list(tensor.shape)} (expected {list(expected[name])})"
        for name, tensor in tensors.items()
        if name in expected and core(tuple(tensor.shape)) != core(expected[name])
    ]
    other = [f"{in_file(name)} {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in DTYPES]
    parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong), ("of another dtype", other))
    if any(names for _, names in parts):
        faults = "; ".join(f"{what}: {few(names)}" for what, names in parts if names)
        raise UserError(
            f"{path} does not hold an RWKV-6 of {config.num_hidden_layers} blocks and hidden size "
            f"{config.hidden_size}: {faults}"
        )
    if HEAD not in expected:
        log_line_once(f"{path} has no {HEAD}, which embeddings do not need")
    return {name: tensors[name].reshape(shape) for name, shape in expected.items()}


def _to_model_name(name: str) -> str:
    for original, ours in _ORIGINAL_NAMES:
        name = name.replace(original, ours, 1) if original[0] == "." or name.startswith(original) else name
    return name


def _to_original_name(name: str) -> str:
    for original, ours in _ORIGINAL_NAMES:
        name = name.replace(ours, original, 1)
    return name
