"""The sizes of an RWKV-7."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rwkv7Config:
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
    head_norm_epsilon: float = 64e-5
    normed_embedding: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size % self.head_size:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of head_size={self.head_size}")

    @property
    def num_heads(self) -> int:
        return self.hidden_size // self.head_size
