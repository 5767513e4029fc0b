"""RWKV-4 as one of the generations that run natively."""

from __future__ import annotations

from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.rwkv4 import checkpoint
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.models.rwkv4.initialization import initialize
from rwkv_sweep.models.rwkv4.network import Rwkv4Model


def _random_config(sizes: dict[str, int]) -> Rwkv4Config:
    """There are no heads, so their size goes unused."""
    return Rwkv4Config(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["num_hidden_layers"],
        attention_hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
    )


GENERATION = Generation(
    number=4,
    model_types=("rwkv",),
    recognizes=checkpoint.is_rwkv4,
    read_shape=checkpoint.read_shape,
    read_weights=checkpoint.read_weights,
    build=Rwkv4Model,
    random_config=_random_config,
    fill=initialize,
)
