"""RWKV-5 weight files to checked tensors under the names of `Rwkv5Model`; sizes come from the tensors' shapes.

Read are versions 5.2 (decay and bonus [H, K]) and 5.1 (one of each a head, spread over its channels), in the author's
layout and in that of Hugging Face folders. 5.0, which has no gate, is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.checkpoint_tensors import (
    Checkpoint,
    announced,
    author_name,
    check_finite,
    check_tensors,
    compare_sizes,
    count_blocks,
    epsilon_of,
    read_checkpoint,
    shapes_of,
)
from rwkv_sweep.models.common.shape import too_large
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, read_json, tensor_names
from rwkv_sweep.models.rwkv5.configuration import HEAD_NORM_EPSILON, Rwkv5Config
from rwkv_sweep.models.rwkv5.network import Rwkv5Model

_TIME_MIX = "blocks.0.attention."
_DECAY, _BONUS = "attention.time_decay", "attention.time_faaaa"
_OLDER_BONUS = "attention.time_first"
"""The bonus before it is exponentiated, in files that have no `time_faaaa`."""


def is_rwkv5(names: Iterable[str]) -> bool:
    """Whether these are the tensors of an RWKV-5.

    It alone has a share of the current token for a gate; 5.0 has no gate, but a norm over heads as later generations
    have, and shares of the current token as RWKV-4 has.
    """
    norm = share = gate = False
    for name in names:
        gate = gate or name.endswith((".att.time_mix_g", ".attention.time_mix_gate"))
        norm = norm or name.endswith((".att.ln_x.weight", ".attention.ln_x.weight"))
        share = share or name.endswith((".att.time_mix_k", ".attention.time_mix_key"))
    return gate or (norm and share)


def read_shape(path: Path) -> Rwkv5Config:
    """The sizes of the checkpoint at `path`, without a look at its numbers.

    Of a folder that holds no weights yet they are what config.json says.

    Raises:
        UserError: nothing is there, or it is not an RWKV-5 that can be read.
    """
    if path.is_dir() and not tensor_names(path):
        return _announced_config(path / CONFIG_FILE)
    return fitted(read_checkpoint(path))[0]


def read_weights(path: Path) -> tuple[Rwkv5Config, dict[str, Tensor]]:
    """Sizes, and all tensors of `Rwkv5Model`, on the CPU in the dtype of the file; shares of tokens in fp32.

    The head is not among them; where the file has one, its shape is checked.

    Raises:
        UserError: nothing is there, a file is damaged or holds code, it holds another network, a tensor is missing,
            unexpected, of another shape or holds NaN or infinity, or config.json says otherwise.
    """
    checkpoint = read_checkpoint(path)
    config, weights = fitted(checkpoint)
    check_finite(path, weights, checkpoint.given)
    return config, weights


def fitted(checkpoint: Checkpoint) -> tuple[Rwkv5Config, dict[str, Tensor]]:
    """As `read_weights`, from tensors that were read (or mapped) already; numbers are not looked at."""
    if any(name.startswith(_TIME_MIX) for name in checkpoint.weights) and not any(
        name.endswith("attention.gate.weight") for name in checkpoint.weights
    ):
        raise UserError(
            f"{checkpoint.path} holds an RWKV-5.0, as it has no {author_name(_TIME_MIX)}gate.weight: "
            "valid are RWKV-5.1 and 5.2"
        )
    needed = {
        "embedding": "embeddings.weight",
        "key": f"{_TIME_MIX}key.weight",
        "wide": "blocks.0.feed_forward.key.weight",
    }
    shapes = shapes_of(checkpoint, "RWKV-5", needed.values())
    (vocab, hidden), inner = shapes[needed["embedding"]], shapes[needed["key"]][0]
    decay = checkpoint.weights.get(f"blocks.0.{_DECAY}")
    heads = len(decay) if decay is not None and decay.dim() > 0 else 0
    if heads == 0 or inner % heads:
        actual = "missing" if decay is None else f"of shape {list(decay.shape)}"
        raise UserError(
            f"{checkpoint.path} is not an RWKV-5: {author_name(_TIME_MIX)}time_decay is {actual}, which is no division "
            f"of {inner} channels into heads"
        )
    config = Rwkv5Config(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=count_blocks(checkpoint.path, shapes),
        attention_hidden_size=inner,
        head_size=inner // heads,
        intermediate_size=shapes[needed["wide"]][0],
    )
    config = _with_settings(checkpoint, config)
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in Rwkv5Model(config).state_dict().items()}
    spread = _spread(checkpoint, config)
    network = f"RWKV-5 of {config.num_hidden_layers} blocks and hidden size {config.hidden_size}"
    weights = check_tensors(spread, network, expected, head=(config.vocab_size, config.hidden_size))
    return config, weights


def _with_settings(checkpoint: Checkpoint, config: Rwkv5Config) -> Rwkv5Config:
    """The config with the epsilon of config.json, whose sizes are held against it."""
    file, settings = checkpoint.config_file, checkpoint.settings
    numbers = {name: value for name, value in asdict(config).items() if type(value) is int}
    if message := too_large(numbers):
        raise UserError(f"{checkpoint.path} has tensors for {message}")
    compare_sizes(file, numbers, settings)
    epsilon = epsilon_of(file, settings, ("layer_norm_epsilon",), 1e-5)
    # The norm of a folder takes the same epsilon, on outputs divided by 8.
    return replace(config, layer_norm_epsilon=epsilon, head_norm_epsilon=epsilon * HEAD_NORM_EPSILON / 1e-5)


def _spread(checkpoint: Checkpoint, config: Rwkv5Config) -> Checkpoint:
    """With one decay and one bonus a channel, and each bonus as it is applied."""
    weights, given = dict(checkpoint.weights), dict(checkpoint.given)
    shape = (config.num_heads, config.head_size)
    for index in range(config.num_hidden_layers):
        older, bonus = f"blocks.{index}.{_OLDER_BONUS}", f"blocks.{index}.{_BONUS}"
        if older in weights and bonus not in weights:
            weights[bonus], given[bonus] = weights.pop(older).float().exp(), given.pop(older)
        for name in (bonus, f"blocks.{index}.{_DECAY}"):
            if name in weights and weights[name].numel() == config.num_heads:
                weights[name] = weights[name].reshape(-1, 1).expand(shape)
            if name in weights and weights[name].numel() == config.attention_hidden_size:
                weights[name] = weights[name].reshape(shape if name == bonus else (-1,)).contiguous()
    return replace(checkpoint, weights=weights, given=given)


def _announced_config(file: Path) -> Rwkv5Config:
    """Sizes as config.json gives them."""
    settings = read_json(file)
    defaults: dict[str, int | None] = {"vocab_size": None, "hidden_size": None, "num_hidden_layers": None}
    sizes = announced(file, settings, {**defaults, "head_size": 64})
    hidden = sizes["hidden_size"]
    # As in the published models: 3.5 times the width, in steps of 32.
    usual = {"attention_hidden_size": hidden, "intermediate_size": max(1, int(hidden * 3.5) // 32 * 32)}
    sizes |= announced(file, settings, usual)
    if message := too_large(sizes):
        raise UserError(f"{file} has {message}")
    try:
        return Rwkv5Config(**sizes)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
