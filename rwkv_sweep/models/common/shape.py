"""The sizes of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rwkv_sweep.errors import shown

MOST_BLOCKS = 4096
LARGEST_SIZE = 2**24
"""Far above any published model, and the product of two is still a number of elements that a tensor can have."""


class Shape(Protocol):
    """What is asked of the sizes of any network."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        ...

    @property
    def hidden_size(self) -> int: ...

    @property
    def num_hidden_layers(self) -> int: ...

    @property
    def state_size(self) -> int | None:
        """Numbers in the WKV states of one layer; None for a network without states."""
        ...

    @property
    def value_size(self) -> int | None:
        """Width of the values of a time mix; None for a network without one."""
        ...

    @property
    def lacking_kinds(self) -> tuple[str, ...]:
        """Linear layers, by their names in `precision.modules`, that it does not have."""
        ...

    @property
    def longest(self) -> int | None:
        """Most tokens that it can read at once; None where that is not limited."""
        ...

    @property
    def task_heads(self) -> tuple[str, ...]:
        """Names of the task heads that its checkpoint has beside the network."""
        ...


class RwkvShape:
    """What the sizes of all generations of RWKV have in common.

    Attributes:
        num_heads, head_size: of the WKV operator.
        intermediate_size: width of the channel mix.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    head_size: int
    intermediate_size: int
    layer_norm_epsilon: float

    @property
    def num_heads(self) -> int:
        return self.hidden_size // self.head_size

    @property
    def state_size(self) -> int | None:
        """Numbers in the WKV states of one layer; None for a generation without matrix-valued states."""
        return self.num_heads * self.head_size**2

    @property
    def value_size(self) -> int | None:
        """Width of the values of a time mix."""
        return int(getattr(self, "attention_hidden_size", self.hidden_size))

    @property
    def lacking_kinds(self) -> tuple[str, ...]:
        """Linear layers, by their names in `precision.modules`, that these blocks do not have."""
        return ()

    @property
    def longest(self) -> None:
        """Most tokens that it can read at once: as many as there are."""
        return

    @property
    def task_heads(self) -> tuple[str, ...]:
        """Names of the task heads that its checkpoint has beside the network."""
        return ()


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of any other network of `transformers`, under the names of `Shape`.

    Attributes:
        vocab_size: rows of the embedding table.
        longest: most tokens that it can read at once; None where that is not limited.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    longest: int | None

    @property
    def state_size(self) -> None:
        """It has no states."""
        return

    @property
    def value_size(self) -> None:
        """It has no time mix."""
        return

    @property
    def lacking_kinds(self) -> tuple[str, ...]:
        """Linear layers, by their names in `precision.modules`, that it lacks: none, as none is quantized."""
        return ()

    @property
    def task_heads(self) -> tuple[str, ...]:
        """It has none."""
        return ()


def too_large(sizes: Mapping[str, int]) -> str | None:
    """`KEY=VALUE: valid is at most ...` for the first size that no network can have; None where all are possible."""
    for key, size in sizes.items():
        most = MOST_BLOCKS if key in ("num_hidden_layers", "num_blocks") else LARGEST_SIZE
        if size > most:
            return f"{key}={shown(size)}: valid is at most {most}"
    return None
