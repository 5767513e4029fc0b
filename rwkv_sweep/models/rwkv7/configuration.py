"""The sizes of an RWKV-7."""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_sweep.models.common.shape import RwkvShape

AUTHOR_HEAD_EPSILON = 64e-5
"""Of the norm over a head's output in the author's code, whatever the size of the heads."""


@dataclass(frozen=True)
class Rwkv7Config(RwkvShape):
    """Shape of an RWKV-7. Ranks and widths are those of the tensors: published files follow no single formula.

    Attributes:
        vocab_size: rows of the embedding table.
        hidden_size: width of the residual stream, `num_heads` times `head_size`.
        num_hidden_layers: number of blocks.
        head_size: channels of a head.
        intermediate_size: width of the channel mix.
        decay_rank, rate_rank, value_rank, gate_rank: ranks of the low-rank products that give decay (`w1`, `w2`),
            in-context learning rate (`a1`, `a2`), value residual (`v1`, `v2`) and gate (`g1`, `g2`).
        layer_norm_epsilon: of the layer norms.
        head_norm_epsilon: of the norm over each head's output, `ln_x`.
        normed_embedding: the embedding table holds rows that went through `ln0` already, and there is no such norm.
        heads: names of the task heads that an EmbeddingRWKV has beside the network, such as `STS`.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    head_size: int
    intermediate_size: int
    decay_rank: int
    rate_rank: int
    value_rank: int
    gate_rank: int
    layer_norm_epsilon: float = 1e-5
    head_norm_epsilon: float = AUTHOR_HEAD_EPSILON
    normed_embedding: bool = False
    heads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.hidden_size % self.head_size:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of head_size={self.head_size}")

    @property
    def task_heads(self) -> tuple[str, ...]:
        """See `RwkvShape`."""
        return self.heads

    @property
    def lacking_kinds(self) -> tuple[str, ...]:
        """Linear layers, by their names in `precision.modules`, that these blocks do not have."""
        return ("time_mix.gate", "channel_mix.receptance")


def usual_ranks(hidden_size: int) -> dict[str, int]:
    """Ranks for a network without a file, by their names in `Rwkv7Config`.

    The author's formula: decay and learning rate 1.8 sqrt(D), value 1.3 sqrt(D), gate 0.6 D^0.8, each rounded to a
    multiple of 32. The published files of 768, 2048, 2560 and 4096 channels follow it, the one of 1024 has a gate of
    rank 128 where it says 160.
    """

    def rounded(rank: float) -> int:
        return max(32, 32 * round(rank / 32))

    root = hidden_size**0.5
    gate = 128 if hidden_size == 1024 else rounded(0.6 * hidden_size**0.8)
    return {
        "decay_rank": rounded(1.8 * root),
        "rate_rank": rounded(1.8 * root),
        "value_rank": rounded(1.3 * root),
        "gate_rank": gate,
    }
