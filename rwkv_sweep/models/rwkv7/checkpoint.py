"""RWKV-7 weight files to checked tensors under the names of `Rwkv7Model`; sizes come from the tensors' shapes."""

from __future__ import annotations

import logging
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.rwkv7.checkpoint_layouts import author_name, other_network, to_model
from rwkv_sweep.models.rwkv7.configuration import AUTHOR_HEAD_EPSILON, Rwkv7Config
from rwkv_sweep.models.rwkv7.network import Rwkv7Model
from rwkv_sweep.models.weight_files import CONFIG_FILE, few, read_folder, read_json, read_tensors

log = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
HEAD = "head.weight"
NORMED = "embedding_layer_norm_fused"
"""Key of config.json that says that `ln0` is in the embedding table already."""


def read_weights(path: Path) -> tuple[Rwkv7Config, dict[str, Tensor]]:
    """Sizes, and all tensors of `Rwkv7Model`, on the CPU in the dtype of the file.

    The head is not among them; where the file has one, its shape is checked.

    Args:
        path: a .pth file, or a folder with config.json and weights.

    Raises:
        UserError: nothing is there, a file is damaged or holds code, it holds another network, a tensor is missing,
            unexpected, of another shape or holds NaN or infinity, or config.json says otherwise.
    """
    if path.is_dir():
        settings, tensors = read_json(path / CONFIG_FILE), read_folder(path)
    elif path.is_file():
        settings, tensors = {}, read_tensors(path)
    else:
        raise UserError(f"{path} does not exist: expected a folder with {CONFIG_FILE} and weights, or a .pth file")
    config, weights = fitted(path, tensors, settings)
    for name, tensor in weights.items():
        # The extremes carry a NaN with them, and need no mask as large as the tensor.
        if not all(math.isfinite(extreme) for extreme in torch.aminmax(tensor)):
            raise UserError(
                f"{path}: {author_name(name)} holds NaN or infinity, so the weights are damaged: fetch the file again"
            )
    return config, weights


def fitted(
    path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> tuple[Rwkv7Config, dict[str, Tensor]]:
    """As `read_weights`, from tensors of any layout that were read (or mapped) already; numbers are not looked at.

    Args:
        settings: what config.json says; empty for a .pth file.
    """
    if (network := other_network(tensors)) is not None:
        raise UserError(f"{path} holds {network}: only the plain RWKV-7 can be read")
    _check_settings(path, settings)
    try:
        weights, given = to_model(tensors)
    except ValueError as error:
        raise UserError(f"{path} holds a tensor twice: {error}") from error
    config = _sizes(path, weights, settings)
    config = _with_norms(path, config, weights, settings)
    if config.normed_embedding:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("blocks.0.pre_ln.")}
    return config, _checked(path, config, weights, given)


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Raises UserError where config.json names a network other than the plain RWKV-7."""
    file, hidden = path / CONFIG_FILE, settings.get("hidden_size")
    widths = settings.get("value_dim")
    widths = widths if isinstance(widths, list) else [widths]
    refused = {
        "attn": settings.get("attn") and "a hybrid, some of whose blocks have softmax attention",
        "use_deep_embed": settings.get("use_deep_embed") and "an RWKV-7a (DeepEmbed)",
        "hidden_act": settings.get("hidden_act") not in (None, "sqrelu") and "another activation than sqrelu",
        "value_dim": any(width not in (None, hidden) for width in widths) and "values of another width than the stream",
    }
    for key, what in refused.items():
        if what:
            value = textwrap.shorten(str(settings[key]), 80)
            raise UserError(f"{file} has {key}={value}, which is {what}: only the plain RWKV-7 can be read")


def _sizes(path: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Rwkv7Config:
    """Sizes as the tensors of the first blocks show them, held against those that config.json names."""
    block = "blocks.0.attention."
    needed = ["embeddings.weight", f"{block}r_k", f"{block}w1", f"{block}a1", f"{block}g1"]
    needed.append("blocks.0.feed_forward.key.weight")
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    lacking = [author_name(name) for name in needed if len(shapes.get(name, ())) != 2]
    if lacking:
        raise UserError(f"{path} is not an RWKV-7: it has no matrix {few(lacking)}")
    numbers = {int(match[1]) for name in shapes if (match := re.match(r"blocks\.(\d+)\.", name))}
    if numbers != set(range(len(numbers))):
        missing = min(set(range(len(numbers))) - numbers)
        raise UserError(f"{path} has blocks up to {max(numbers)}, but not blocks.{missing}")
    (vocab, hidden), (heads, size) = shapes["embeddings.weight"], shapes[f"{block}r_k"]
    if empty := next((name for name in needed if 0 in shapes[name]), None):
        raise UserError(f"{path} is not an RWKV-7: {author_name(empty)} is empty, of shape {list(shapes[empty])}")
    if heads * size != hidden:
        raise UserError(
            f"{path} has {author_name(block)}r_k of shape [{heads}, {size}], which is no division of the hidden size "
            f"{hidden} into heads"
        )
    value = shapes.get("blocks.1.attention.v1", ())
    config = Rwkv7Config(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=len(numbers),
        head_size=size,
        intermediate_size=shapes["blocks.0.feed_forward.key.weight"][0],
        decay_rank=shapes[f"{block}w1"][1],
        rate_rank=shapes[f"{block}a1"][1],
        value_rank=value[1] if len(value) == 2 else 0,
        gate_rank=shapes[f"{block}g1"][1],
    )
    _compare(path / CONFIG_FILE, config, settings)
    return config


def _compare(file: Path, config: Rwkv7Config, settings: Mapping[str, Any]) -> None:
    """Raises UserError where config.json names a size that the tensors do not have."""
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "head_dim": config.head_size,
        "head_size": config.head_size,
    }
    for key, size in sizes.items():
        if settings.get(key) not in (None, size):
            raise UserError(f"{file} has {key}={settings[key]}, but the tensors beside it have {size}")


def _with_norms(
    path: Path, config: Rwkv7Config, weights: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> Rwkv7Config:
    """The epsilons, and whether the embedding table is normed already.

    fla and transformers take `norm_eps` times the head size for the norm over a head's output; the author always takes
    64e-5, which is the same for heads of 64.
    """
    epsilon = _epsilon(path, settings, ("norm_eps", "layer_norm_epsilon"), 1e-5)
    by_head = config.head_size * epsilon if "norm_eps" in settings else AUTHOR_HEAD_EPSILON
    head_epsilon = _epsilon(path, settings, ("group_norm_epsilon",), by_head)
    norm, told = "blocks.0.pre_ln.weight", settings.get(NORMED) is True
    bias = weights.get("blocks.0.pre_ln.bias")
    normed = told
    if norm in weights and bias is not None:
        normed = _is_normed(weights["embeddings.weight"], weights[norm], bias)
        if told and not normed:
            raise UserError(
                f"{path / CONFIG_FILE} has {NORMED}=true, but the embedding table is not what blocks.0.ln0 gives: "
                "valid is a table with that norm in it, or false"
            )
        if normed:
            log.info("%s: the embedding table went through blocks.0.ln0 already, which is not applied again", path)
    elif not told:
        raise UserError(
            f"{path} has no blocks.0.ln0, the norm of the embedding, nor {NORMED}=true in a {CONFIG_FILE} to say that "
            "it is in the table already"
        )
    return replace(config, layer_norm_epsilon=epsilon, head_norm_epsilon=head_epsilon, normed_embedding=normed)


def _epsilon(path: Path, settings: Mapping[str, Any], keys: tuple[str, ...], default: float) -> float:
    for key in keys:
        epsilon = settings.get(key)
        if epsilon is None:
            continue
        if not isinstance(epsilon, float) or not 0 < epsilon < 1:
            raise UserError(f"{path / CONFIG_FILE} has {key}={epsilon}: valid is a number between 0 and 1")
        return epsilon
    return default


def _is_normed(table_VD: Tensor, weight_D: Tensor, bias_D: Tensor) -> bool:
    """Whether the rows of the table are outputs of a layer norm with this weight and bias.

    Without them they have mean 0, and variance 1 where they are not tiny (a tiny row's variance is below, by the norm's
    epsilon). Rows that pass by chance would come out of that norm as they are.
    """
    if weight_D.numel() != table_VD.shape[1] or bias_D.numel() != table_VD.shape[1]:
        return False
    rows_RD = table_VD[:: max(1, len(table_VD) // 256)].double()
    rows_RD = (rows_RD - bias_D.flatten().double()) / weight_D.flatten().double()
    means_R, variances_R = rows_RD.mean(1).abs(), rows_RD.var(1, unbiased=False)
    middle = float((variances_R - 1).abs().median())
    return float(means_R.median()) < 2e-3 and middle < 0.02 and float(variances_R.max()) < 1.02


def _checked(
    path: Path, config: Rwkv7Config, weights: dict[str, Tensor], given: Mapping[str, str]
) -> dict[str, Tensor]:
    """The tensors in the shapes of the model: vectors may come as [D] or [1, 1, D].

    Raises:
        UserError: names, shapes or dtypes are not those of the model.
    """
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in Rwkv7Model(config).state_dict().items()}
    head = {HEAD: (config.vocab_size, config.hidden_size)} if HEAD in weights else {}
    if not head:
        log.info("%s has no head.weight, which embeddings do not need", path)
    heads = {name: (config.num_heads, config.head_size) for name in expected if name.endswith(".r_k")}
    shapes = {**expected, **heads, **head}
    wrong = [
        f"{given[name]} {list(tensor.shape)} (expected {list(shapes[name])})"
        for name, tensor in weights.items()
        if name in shapes and _core(tuple(tensor.shape)) != _core(shapes[name])
    ]
    parts = (
        ("missing", [author_name(name) for name in expected if name not in weights]),
        ("unexpected", [given[name] for name in weights if name not in shapes]),
        ("of another shape", wrong),
        (
            "of another dtype",
            [f"{given[n]} {tensor.dtype}" for n, tensor in weights.items() if tensor.dtype not in DTYPES],
        ),
    )
    if any(names for _, names in parts):
        found = "; ".join(f"{what}: {few(names)}" for what, names in parts if names)
        raise UserError(
            f"{path} does not hold an RWKV-7 of {config.num_hidden_layers} blocks and hidden size "
            f"{config.hidden_size}: {found}"
        )
    return {name: weights[name].reshape(shape) for name, shape in expected.items()}


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
