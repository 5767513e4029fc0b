"""The sizes of an RWKV-6."""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_sweep.models.common.shape import RwkvShape


@dataclass
class Rwkv6Config(RwkvShape):
    """Shape of an RWKV-6, with the keys that RWKV/v6-Finch-1B6-HF uses in its config.json.

    What is 0 follows from the hidden size, as in the published models. No class of `transformers`, whose import takes
    seconds: see `export`.
    """

    vocab_size: int = 65536
    hidden_size: int = 2048
    num_hidden_layers: int = 24
    attention_hidden_size: int = 0
    head_size: int = 64
    head_size_divisor: int = 8
    intermediate_size: int = 0
    time_mix_extra_dim: int = 0
    time_decay_extra_dim: int = 0
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        large = self.hidden_size == 4096
        # Ranks of the published models, doubled in the one of 7B.
        missing = {
            "attention_hidden_size": self.hidden_size,
            "intermediate_size": int(self.hidden_size * 3.5) // 32 * 32,
            "time_mix_extra_dim": 64 if large else 32,
            "time_decay_extra_dim": 128 if large else 64,
        }
        for name, size in missing.items():
            setattr(self, name, getattr(self, name) or size)

    @property
    def num_heads(self) -> int:
        return self.attention_hidden_size // self.head_size
