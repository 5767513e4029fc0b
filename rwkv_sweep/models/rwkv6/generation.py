"""RWKV-6 as one of the generations that run natively."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.rwkv6 import checkpoint
from rwkv_sweep.models.rwkv6.configuration import Rwkv6Config
from rwkv_sweep.models.rwkv6.initialization import initialize
from rwkv_sweep.models.rwkv6.network import Rwkv6Model

OWN_TENSORS = (".att.time_maa_w1", ".attention.time_maa_w1")
"""Endings of names that no other generation has."""
PREFIX = "rwkv."


def _recognizes(names: Collection[str]) -> bool:
    return any(name.endswith(OWN_TENSORS) for name in names)


def _read_weights(path: Path) -> tuple[Rwkv6Config, dict[str, Tensor]]:
    """The head was checked with the rest and is left out."""
    config, tensors = checkpoint.read_weights(path)
    return config, {name[len(PREFIX) :]: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}


GENERATION = Generation(
    number=6,
    model_types=("rwkv6",),
    recognizes=_recognizes,
    read_shape=checkpoint.read_shape,
    read_weights=_read_weights,
    build=Rwkv6Model,
    random_config=lambda sizes: Rwkv6Config(**sizes),
    fill=lambda model, seed: initialize(model, seed, zero_outputs=False),
)
