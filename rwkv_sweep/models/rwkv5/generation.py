"""RWKV-5 as one of the generations that run natively."""

from __future__ import annotations

from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.rwkv5 import checkpoint
from rwkv_sweep.models.rwkv5.configuration import Rwkv5Config
from rwkv_sweep.models.rwkv5.initialization import initialize
from rwkv_sweep.models.rwkv5.network import Rwkv5Model

GENERATION = Generation(
    number=5,
    model_types=("rwkv5",),
    recognizes=checkpoint.is_rwkv5,
    read_shape=checkpoint.read_shape,
    read_weights=checkpoint.read_weights,
    build=Rwkv5Model,
    random_config=lambda sizes: Rwkv5Config(**sizes, attention_hidden_size=sizes["hidden_size"]),
    fill=initialize,
)
