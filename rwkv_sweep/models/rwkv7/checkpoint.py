"""RWKV-7 weight files to checked tensors under the names of `Rwkv7Model`; sizes come from the tensors' shapes.

Shapes: V entries of the vocabulary, R of its rows, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.checkpoint_tensors import DTYPES, HEAD, core, count_blocks, epsilon_of
from rwkv_sweep.models.common.shape import too_large
from rwkv_sweep.models.common.task_heads import TaskHead, check_finite_heads, task_heads, without_task_heads
from rwkv_sweep.models.pretrained.other_networks import OUTER, unwrapped
from rwkv_sweep.models.pretrained.weight_files import (
    CONFIG_FILE,
    few,
    read_folder,
    read_json,
    read_tensors,
    tensor_names,
)
from rwkv_sweep.models.rwkv7.checkpoint_layouts import original_name, other_network, to_model
from rwkv_sweep.models.rwkv7.configuration import AUTHOR_HEAD_EPSILON, Rwkv7Config
from rwkv_sweep.models.rwkv7.network import Rwkv7Model
from rwkv_sweep.models.rwkv7.settings import announced_sizes, check_announced, check_settings
from rwkv_sweep.utils.console import log_line_once

NORMED = "embedding_layer_norm_fused"
"""Key of config.json that says that `ln0` is in the embedding table already."""


def read_shape(path: Path) -> Rwkv7Config:
    """The sizes of the checkpoint at `path`, without a look at its numbers.

    Of a folder that holds no weights yet they are what config.json says, and 0 where it leaves a rank or the width of
    the channel mix open.

    Raises:
        UserError: nothing is there, or it is not an RWKV-7 that can be read.
    """
    if path.is_dir() and not tensor_names(path):
        settings = read_json(path / CONFIG_FILE)
        check_settings(path / CONFIG_FILE, settings)
        return announced_sizes(path / CONFIG_FILE, settings)
    return fitted(path, *_read(path))[0]


def read_weights(path: Path) -> tuple[Rwkv7Config, dict[str, Tensor]]:
    """Sizes, and all tensors of `Rwkv7Model`, on the CPU in the dtype of the file.

    The head is not among them; where the file has one, its shape is checked.

    Args:
        path: a .pth file, or a folder with config.json and weights.

    Raises:
        UserError: nothing is there, a file is damaged or holds code, it holds another network, a tensor is missing,
            unexpected, of another shape or holds NaN or infinity, or config.json says otherwise.
    """
    config, weights = fitted(path, *_read(path))
    for name, tensor in weights.items():
        # The extremes carry a NaN with them, and need no mask as large as the tensor.
        if not all(math.isfinite(extreme) for extreme in torch.aminmax(tensor)):
            raise UserError(
                f"{path}: {original_name(name)} holds NaN or infinity, so the weights are damaged: fetch the file again"
            )
    return config, weights


def read_task_heads(path: Path) -> dict[str, TaskHead]:
    """The task heads of an EmbeddingRWKV by name; none of any other checkpoint.

    Raises:
        UserError: as `read_weights`.
    """
    bare, _ = unwrapped(_read(path)[0])
    network, heads = without_task_heads(path, bare)
    check_finite_heads(path, heads)
    weights, _ = to_model(network)
    return task_heads(path, heads, weights["embeddings.weight"].shape[1])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors as the files name them, mapped where the format allows it, and config.json (empty for a .pth)."""
    if path.is_dir():
        settings = read_json(path / CONFIG_FILE)
        return read_folder(path), settings
    return read_tensors(path), {}


def fitted(
    path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> tuple[Rwkv7Config, dict[str, Tensor]]:
    """As `read_weights`, from tensors of any layout that were read (or mapped) already; numbers are not looked at.

    Args:
        settings: what config.json says; empty for a .pth file.
    """
    if (network := other_network(tensors)) is not None:
        raise UserError(f"{path} holds {network}: only the plain RWKV-7 can be read")
    check_settings(path / CONFIG_FILE, settings)
    try:
        bare, removed = unwrapped(tensors)
        bare, heads = without_task_heads(path, bare)
        weights, given = to_model(bare)
    except ValueError as error:
        raise UserError(f"{path} holds a tensor twice: {error}") from error
    if wrappers := [part for part in removed if part != OUTER]:
        log_line_once(f"{path}: the names of its tensors are read without {' and '.join(wrappers)}")
    config = _sizes(path, weights, settings)
    config = replace(config, heads=tuple(task_heads(path, heads, config.hidden_size)))
    config = _with_norms(path, config, weights, settings)
    if config.normed_embedding:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("blocks.0.pre_ln.")}
    return config, _checked(path, config, weights, given)


def _sizes(path: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Rwkv7Config:
    """Sizes as the tensors of the first blocks show them, held against those that config.json names."""
    block = "blocks.0.attention."
    needed = ["embeddings.weight", f"{block}r_k", f"{block}w1", f"{block}a1", f"{block}g1"]
    needed.append("blocks.0.feed_forward.key.weight")
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    lacking = [original_name(name) for name in needed if len(shapes.get(name, ())) != 2]
    if lacking:
        raise UserError(f"{path} is not an RWKV-7: it has no matrix {few(lacking)}")
    (vocab, hidden), (heads, size) = shapes["embeddings.weight"], shapes[f"{block}r_k"]
    if empty := next((name for name in needed if 0 in shapes[name]), None):
        raise UserError(f"{path} is not an RWKV-7: {original_name(empty)} is empty, of shape {list(shapes[empty])}")
    if heads * size != hidden:
        raise UserError(
            f"{path} has {original_name(block)}r_k of shape [{heads}, {size}], which is no division of the hidden size "
            f"{hidden} into heads"
        )
    value = shapes.get("blocks.1.attention.v1", ())
    config = Rwkv7Config(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=count_blocks(path, shapes),
        head_size=size,
        intermediate_size=shapes["blocks.0.feed_forward.key.weight"][0],
        decay_rank=shapes[f"{block}w1"][1],
        rate_rank=shapes[f"{block}a1"][1],
        value_rank=value[1] if len(value) == 2 else 0,
        gate_rank=shapes[f"{block}g1"][1],
    )
    numbers = {name: value for name, value in asdict(config).items() if type(value) is int}
    if message := too_large(numbers):
        raise UserError(f"{path} has tensors for {message}")
    check_announced(path / CONFIG_FILE, config, settings)
    return config


def _with_norms(
    path: Path, config: Rwkv7Config, weights: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> Rwkv7Config:
    """The epsilons, and whether the embedding table is normed already.

    fla and transformers take `norm_eps` times the head size for the norm over a head's output; the author always takes
    64e-5, which is the same for heads of 64.
    """
    epsilon = epsilon_of(path / CONFIG_FILE, settings, ("norm_eps", "layer_norm_epsilon"), 1e-5)
    by_head = config.head_size * epsilon if "norm_eps" in settings else AUTHOR_HEAD_EPSILON
    head_epsilon = epsilon_of(path / CONFIG_FILE, settings, ("group_norm_epsilon",), by_head)
    norm, stated = "blocks.0.pre_ln.weight", settings.get(NORMED) is True
    bias = weights.get("blocks.0.pre_ln.bias")
    normed = stated
    if norm in weights and bias is not None:
        normed = _is_normed(weights["embeddings.weight"], weights[norm], bias)
        if stated and not normed:
            raise UserError(
                f"{path / CONFIG_FILE} has {NORMED}=true, but the embedding table is not what blocks.0.ln0 gives: "
                "valid is a table with that norm in it, or false"
            )
        if normed:
            log_line_once(f"{path}: the embedding table went through blocks.0.ln0 already, which is not applied again")
    elif not stated:
        raise UserError(
            f"{path} has no blocks.0.ln0, the norm of the embedding, nor {NORMED}=true in a {CONFIG_FILE} to say that "
            "it is in the table already"
        )
    return replace(config, layer_norm_epsilon=epsilon, head_norm_epsilon=head_epsilon, normed_embedding=normed)


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
    if not head and not config.heads:
        log_line_once(f"{path} has no {HEAD}, which embeddings do not need")
    heads = {name: (config.num_heads, config.head_size) for name in expected if name.endswith(".r_k")}
    shapes = {**expected, **heads, **head}
    wrong = [
        f"{given[name]} {list(tensor.shape)} (expected {list(shapes[name])})"
        for name, tensor in weights.items()
        if name in shapes and core(tuple(tensor.shape)) != core(shapes[name])
    ]
    parts = (
        ("missing", [original_name(name) for name in expected if name not in weights]),
        ("unexpected", [given[name] for name in weights if name not in shapes]),
        ("of another shape", wrong),
        (
            "of another dtype",
            [f"{given[n]} {tensor.dtype}" for n, tensor in weights.items() if tensor.dtype not in DTYPES],
        ),
    )
    if any(names for _, names in parts):
        differences = "; ".join(f"{what}: {few(names)}" for what, names in parts if names)
        raise UserError(
            f"{path} does not hold an RWKV-7 of {config.num_hidden_layers} blocks and hidden size "
            f"{config.hidden_size}: {differences}"
        )
    return {name: weights[name].reshape(shape) for name, shape in expected.items()}
