"""The sizes of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rwkv_sweep.errors import shown
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config

MOST_BLOCKS = 4096
LARGEST_SIZE = 2**24
"""Far above any published model, and the product of two is still a number of elements that a tensor can have."""


@dataclass
class Rwkv6Config:
    """Shape of an RWKV-6, with the keys that RWKV/v6-Finch-1B6-HF uses in its config.json.

    What is 0 follows from the hidden size, as in the published models. No class of `transformers`, whose import takes
    seconds: see `rwkv6_hf`.
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

    @property
    def lacking_kinds(self) -> tuple[str, ...]:
        """Linear layers, by their names in `precision.modules`, that these blocks do not have."""
        return ()


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of any other network of `transformers`, under the names that `Rwkv6Config` has.

    Attributes:
        vocab_size: rows of the embedding table.
        longest: most tokens that it can read at once; None where that is not limited.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    longest: int | None

    @property
    def lacking_kinds(self) -> tuple[str, ...]:
        """Linear layers, by their names in `precision.modules`, that it lacks: none, as none is quantized."""
        return ()


Shape = Rwkv6Config | Rwkv7Config | EncoderShape


def too_large(sizes: Mapping[str, int]) -> str | None:
    """`KEY=VALUE: valid is at most ...` for the first size that no network can have; None where all are possible."""
    for key, size in sizes.items():
        most = MOST_BLOCKS if key in ("num_hidden_layers", "num_blocks") else LARGEST_SIZE
        if size > most:
            return f"{key}={shown(size)}: valid is at most {most}"
    return None
