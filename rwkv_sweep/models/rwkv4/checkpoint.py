"""RWKV-4 weight files to checked tensors under the names of `Rwkv4Model`; sizes come from the tensors' shapes.

Read are the author's .pth and the folders of transformers (`RwkvModel`, `RwkvForCausalLM`).
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
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.models.rwkv4.network import Rwkv4Model


def is_rwkv4(names: Iterable[str]) -> bool:
    """Whether these are the tensors of an RWKV-4: shares of the current token, but neither norm over heads nor gate."""
    share = later = False
    for name in names:
        share = share or name.endswith((".att.time_mix_k", ".attention.time_mix_key"))
        later = later or ".ln_x." in name or name.endswith((".att.time_mix_g", ".attention.time_mix_gate"))
    return share and not later


def read_shape(path: Path) -> Rwkv4Config:
    """The sizes of the checkpoint at `path`, without a look at its numbers.

    Of a folder that holds no weights yet they are what config.json says.

    Raises:
        UserError: nothing is there, or it is not an RWKV-4 that can be read.
    """
    if path.is_dir() and not tensor_names(path):
        return _announced_config(path / CONFIG_FILE)
    return fitted(read_checkpoint(path))[0]


def read_weights(path: Path) -> tuple[Rwkv4Config, dict[str, Tensor]]:
    """Sizes, and all tensors of `Rwkv4Model`, on the CPU in the dtype of the file; shares of tokens in fp32.

    The head is not among them; where the file has one, its shape is checked.

    Raises:
        UserError: nothing is there, a file is damaged or holds code, it holds another network, a tensor is missing,
            unexpected, of another shape or holds NaN or infinity, or config.json says otherwise.
    """
    checkpoint = read_checkpoint(path)
    config, weights = fitted(checkpoint)
    check_finite(path, weights, checkpoint.given)
    return config, weights


def fitted(checkpoint: Checkpoint) -> tuple[Rwkv4Config, dict[str, Tensor]]:
    """As `read_weights`, from tensors that were read (or mapped) already; numbers are not looked at."""
    embedding, key = "embeddings.weight", "blocks.0.attention.key.weight"
    wide = "blocks.0.feed_forward.key.weight"
    shapes = shapes_of(checkpoint, "RWKV-4", (embedding, key, wide))
    config = Rwkv4Config(
        vocab_size=shapes[embedding][0],
        hidden_size=shapes[embedding][1],
        num_hidden_layers=count_blocks(checkpoint.path, shapes),
        attention_hidden_size=shapes[key][0],
        intermediate_size=shapes[wide][0],
    )
    file, settings = checkpoint.config_file, checkpoint.settings
    sizes = {name: value for name, value in asdict(config).items() if type(value) is int and name != "head_size"}
    if message := too_large(sizes):
        raise UserError(f"{checkpoint.path} has tensors for {message}")
    compare_sizes(file, sizes, settings)
    config = replace(config, layer_norm_epsilon=epsilon_of(file, settings, ("layer_norm_epsilon",), 1e-5))
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in Rwkv4Model(config).state_dict().items()}
    network = f"RWKV-4 of {config.num_hidden_layers} blocks and hidden size {config.hidden_size}"
    return config, check_tensors(checkpoint, network, expected, head=(config.vocab_size, config.hidden_size))


def _announced_config(file: Path) -> Rwkv4Config:
    """Sizes as config.json gives them."""
    settings = read_json(file)
    sizes = announced(file, settings, {"vocab_size": None, "hidden_size": None, "num_hidden_layers": None})
    hidden = sizes["hidden_size"]
    sizes |= announced(file, settings, {"attention_hidden_size": hidden, "intermediate_size": 4 * hidden})
    if message := too_large(sizes):
        raise UserError(f"{file} has {message}")
    return Rwkv4Config(**sizes)
