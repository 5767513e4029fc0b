"""RWKV-7 as one of the generations that run natively."""

from __future__ import annotations

from typing import Any

from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.rwkv7 import checkpoint
from rwkv_sweep.models.rwkv7.checkpoint_layouts import is_rwkv7
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config, usual_ranks
from rwkv_sweep.models.rwkv7.initialization import initialize
from rwkv_sweep.models.rwkv7.network import Rwkv7Model


def _random_config(sizes: dict[str, int]) -> Rwkv7Config:
    numbers: dict[str, Any] = {**sizes, **usual_ranks(sizes["hidden_size"])}
    return Rwkv7Config(**numbers)


GENERATION = Generation(
    number=7,
    model_types=("rwkv7", "rwkv_x070"),
    recognizes=is_rwkv7,
    read_shape=checkpoint.read_shape,
    read_weights=checkpoint.read_weights,
    build=Rwkv7Model,
    random_config=_random_config,
    fill=initialize,
    read_task_heads=checkpoint.read_task_heads,
)
