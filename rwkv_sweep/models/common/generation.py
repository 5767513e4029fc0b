"""What sets one generation of RWKV apart: how it is recognized, read, built, and drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.common.shape import RwkvShape
from rwkv_sweep.models.common.task_heads import TaskHead


@dataclass(frozen=True)
class Generation:
    """One generation of RWKV.

    Attributes:
        number: of the generation.
        model_types: `model_type` in a config.json of this generation.
        recognizes: whether tensors of these names are of this generation, in any layout it is stored in.
        read_shape: sizes of the checkpoint at a path; of a folder without weights, from config.json alone.
        read_weights: sizes, and all tensors of the model, checked, on the CPU in the dtype of the file.
        build: the model of these sizes.
        random_config: sizes of a network without a file.
        fill: draw a model's weights with a seed, in place.
        read_task_heads: of a checkpoint whose shape names task heads, these by name.
    """

    number: int
    model_types: tuple[str, ...]
    recognizes: Callable[[Collection[str]], bool]
    read_shape: Callable[[Path], RwkvShape]
    read_weights: Callable[[Path], tuple[RwkvShape, dict[str, Tensor]]]
    build: Callable[[Any], RwkvModel]
    random_config: Callable[[dict[str, int]], RwkvShape]
    fill: Callable[[Any, int], None]
    read_task_heads: Callable[[Path], dict[str, TaskHead]] = lambda path: {}

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

    def draw(self, config: RwkvShape, seed: int, device: torch.device) -> RwkvModel:
        """Random weights, drawn where they will lie: on a CPU 1.6 billion numbers take ten seconds."""
        with torch.device("meta"):
            model = self.build(config)
        _allocate(model, device)
        self.fill(model, seed)
        return model


def _allocate(model: RwkvModel, device: torch.device) -> None:
    """As `model.to_empty`, which for a model on the meta device imports SymPy, for seconds."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            module.register_parameter(name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))
