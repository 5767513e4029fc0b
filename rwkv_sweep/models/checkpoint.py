"""Weight files to checked tensors under the names of `Rwkv6Lm`.

Two layouts are read: a Hugging Face folder (config.json, and safetensors or .bin, whole or in shards) and the original
.pth file, whose sizes are told by its tensors.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.rwkv6 import Rwkv6Config, Rwkv6Lm
from rwkv_sweep.models.weight_files import CONFIG_FILE, few, fingerprint, read_folder, read_json, read_tensors

__all__ = ["fingerprint", "read_shape", "read_weights"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

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

    Raises:
        UserError: nothing is there, a file is damaged or holds code, a tensor is missing, unexpected, of another shape
            or holds NaN or infinity.
    """
    if path.is_dir():
        config = _folder_config(path)
        tensors = _fitted(path, config, read_folder(path))
    else:
        config, tensors = _original(path)
    _check_finite(path, tensors)
    return config, tensors


def _folder_config(folder: Path) -> Rwkv6Config:
    file = folder / CONFIG_FILE
    content = read_json(file)
    if content.get("model_type") != "rwkv6":
        raise UserError(f"{file} has model_type={content.get('model_type')}: only rwkv6 can be read")
    sizes = {key: content[key] for key in _SIZES if content.get(key) is not None}
    lacking = [key for key in _REQUIRED if key not in sizes]
    if lacking:
        raise UserError(f"{file} lacks {', '.join(lacking)}")
    for key, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{file} has {key}={value}: valid is a whole number from 1 on")
    epsilon = content.get("layer_norm_epsilon", 1e-5)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise UserError(f"{file} has layer_norm_epsilon={epsilon}: valid is a number between 0 and 1, such as 1e-05")
    config = Rwkv6Config(**sizes, layer_norm_epsilon=epsilon)
    if config.attention_hidden_size % config.head_size:
        raise UserError(
            f"{file} has attention_hidden_size={config.attention_hidden_size}, "
            f"which head_size={config.head_size} does not divide"
        )
    return config


def _original(path: Path) -> tuple[Rwkv6Config, dict[str, Tensor]]:
    """Config and tensors of an original .pth file, fitted to the model but not looked into."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: expected a folder with {CONFIG_FILE} and weights, or a .pth file")
    tensors = {_to_model_name(name): tensor for name, tensor in read_tensors(path).items()}
    config = _config_of(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return config, _fitted(path, config, tensors)


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
        raise UserError(f"{path} is not an original RWKV-6 checkpoint: it has no matrix {few(lacking)}")
    blocks = [int(match[1]) for name in shapes if (match := re.match(r"rwkv\.blocks\.(\d+)\.", name))]
    return Rwkv6Config(
        vocab_size=shapes[names["embedding"]][0],
        hidden_size=shapes[names["embedding"]][1],
        num_hidden_layers=max(blocks) + 1,
        attention_hidden_size=shapes[names["key"]][0],
        head_size=shapes[names["bonus"]][1],
        intermediate_size=shapes[names["ffn"]][0],
        time_mix_extra_dim=shapes[names["mix"]][1] // 5,
        time_decay_extra_dim=shapes[names["decay"]][1],
    )


def _fitted(path: Path, config: Rwkv6Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the shapes of the model: vectors may come as [D] or [1, 1, D].

    Raises:
        UserError: names, shapes or dtypes are not those of the model.
    """
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in Rwkv6Lm(config).state_dict().items()}
    shown = (lambda name: name) if path.is_dir() else _to_original_name
    missing = [shown(name) for name in expected if name not in tensors]
    unexpected = [shown(name) for name in tensors if name not in expected]
    wrong = [
        f"{shown(name)} {list(tensor.shape)} (expected {list(expected[name])})"
        for name, tensor in tensors.items()
        if name in expected and _core(tuple(tensor.shape)) != _core(expected[name])
    ]
    other = [f"{shown(name)} {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in DTYPES]
    parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong), ("of another dtype", other))
    if any(names for _, names in parts):
        found = "; ".join(f"{what}: {few(names)}" for what, names in parts if names)
        raise UserError(
            f"{path} does not hold an RWKV-6 of {config.num_hidden_layers} blocks and hidden size "
            f"{config.hidden_size}: {found}"
        )
    return {name: tensors[name].reshape(shape) for name, shape in expected.items()}


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        # The extremes carry a NaN with them, and need no mask as large as the tensor.
        low, high = torch.aminmax(tensor)
        if not (math.isfinite(low) and math.isfinite(high)):
            shown = name if path.is_dir() else _to_original_name(name)
            raise UserError(f"{path}: {shown} holds NaN or infinity, so the weights are damaged: fetch the file again")


def _to_model_name(name: str) -> str:
    for original, ours in _ORIGINAL_NAMES:
        name = name.replace(original, ours, 1) if original[0] == "." or name.startswith(original) else name
    return name


def _to_original_name(name: str) -> str:
    for original, ours in _ORIGINAL_NAMES:
        name = name.replace(ours, original, 1)
    return name


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
