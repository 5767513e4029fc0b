"""The generations of RWKV that run natively: how each is recognized, read, built, and drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, read_json, read_tensors, tensor_names
from rwkv_sweep.models.rwkv6 import checkpoint
from rwkv_sweep.models.rwkv6 import initialization as initialization6
from rwkv_sweep.models.rwkv6.network import Rwkv6Config, Rwkv6Model
from rwkv_sweep.models.rwkv7 import checkpoint as checkpoint7
from rwkv_sweep.models.rwkv7 import initialization as initialization7
from rwkv_sweep.models.rwkv7.checkpoint_layouts import is_rwkv7
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config, usual_ranks
from rwkv_sweep.models.rwkv7.network import Rwkv7Model

RwkvConfig = Rwkv6Config | Rwkv7Config


@dataclass(frozen=True)
class Generation:
    """What sets one generation of RWKV apart.

    Attributes:
        number: 6 or 7.
        read_shape: sizes of the checkpoint at a path; of a folder without weights, from config.json alone.
        read_weights: sizes, and all tensors of the model, checked, on the CPU in the dtype of the file.
        build: the model of these sizes.
        random_config: sizes of a network without a file.
        fill: draw a model's weights with a seed, in place.
    """

    number: int
    read_shape: Callable[[Path], RwkvConfig]
    read_weights: Callable[[Path], tuple[RwkvConfig, dict[str, Tensor]]]
    build: Callable[[Any], RwkvModel]
    random_config: Callable[[dict[str, int]], RwkvConfig]
    fill: Callable[[Any, int], None]

    def load(self, path: Path) -> RwkvModel:
        """The checkpoint at `path`, in the dtype of the file and still mapped from it.

        Raises:
            UserError: see `read_weights` of the generation's checkpoints.
        """
        config, tensors = self.read_weights(path)
        with torch.device("meta"):
            model = self.build(config)
        # Assigned, not copied: no second copy, no initialization.
        model.load_state_dict(tensors, strict=True, assign=True)
        return model

    def draw(self, config: RwkvConfig, seed: int, device: torch.device) -> RwkvModel:
        """Random weights, drawn where they will lie: on a CPU 1.6 billion numbers take ten seconds."""
        with torch.device("meta"):
            model = self.build(config)
        model.to_empty(device=device)
        self.fill(model, seed)
        return model


def _weights6(path: Path) -> tuple[Rwkv6Config, dict[str, Tensor]]:
    """The head was checked with the rest and is left out."""
    config, tensors = checkpoint.read_weights(path)
    prefix = "rwkv."
    return config, {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _config7(sizes: dict[str, int]) -> Rwkv7Config:
    numbers: dict[str, Any] = {**sizes, **usual_ranks(sizes["hidden_size"])}
    return Rwkv7Config(**numbers)


GENERATIONS = {
    6: Generation(
        6,
        read_shape=checkpoint.read_shape,
        read_weights=_weights6,
        build=Rwkv6Model,
        random_config=lambda sizes: Rwkv6Config(**sizes),
        fill=lambda model, seed: initialization6.initialize(model, seed, zero_outputs=False),
    ),
    7: Generation(
        7,
        read_shape=checkpoint7.read_shape,
        read_weights=checkpoint7.read_weights,
        build=Rwkv7Model,
        random_config=_config7,
        fill=initialization7.initialize,
    ),
}
_MODEL_TYPES = {"rwkv6": 6, "rwkv7": 7, "rwkv_x070": 7}
"""`model_type` of a config.json; any other leaves it to the tensors."""


def generation_of(path: Path) -> Generation:
    """Which generation the checkpoint at `path` is of, as its tensors show; where a folder has none, its config.json.

    What is neither is left to RWKV-6, whose reader says what it lacks.

    Raises:
        UserError: a file is missing or damaged.
    """
    if path.is_dir():
        model_type = read_json(path / CONFIG_FILE).get("model_type")
        if isinstance(model_type, str) and model_type in _MODEL_TYPES:
            return GENERATIONS[_MODEL_TYPES[model_type]]
        names = tensor_names(path)
    elif path.is_file():
        names = list(read_tensors(path))
    else:
        raise UserError(f"{path} does not exist: expected a folder with {CONFIG_FILE} and weights, or a .pth file")
    return GENERATIONS[7 if is_rwkv7(names) else 6]
