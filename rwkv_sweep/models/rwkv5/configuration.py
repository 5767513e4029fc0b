"""The sizes of an RWKV-5."""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_sweep.models.common.shape import RwkvShape

HEAD_NORM_EPSILON = 64e-5
"""Of the norm over a head's output: 1e-5 on the output divided by 8, as the published code has it."""


@dataclass(frozen=True)
class Rwkv5Config(RwkvShape):
    """Shape of an RWKV-5.2.

    Attributes:
        vocab_size: rows of the embedding table.
        hidden_size: width of the residual stream.
        num_hidden_layers: number of blocks.
        attention_hidden_size: width of keys, values and gates, `num_heads` times `head_size`.
        head_size: channels of a head.
        intermediate_size: width of the channel mix.
        layer_norm_epsilon: of the layer norms.
        head_norm_epsilon: of the norm over each head's output, `ln_x`.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    attention_hidden_size: int
    head_size: int
    intermediate_size: int
    layer_norm_epsilon: float = 1e-5
    head_norm_epsilon: float = HEAD_NORM_EPSILON

    def __post_init__(self) -> None:
        if self.attention_hidden_size % self.head_size:
            raise ValueError(
                f"attention_hidden_size={self.attention_hidden_size} is not a multiple of head_size={self.head_size}"
            )

    @property
    def num_heads(self) -> int:
        return self.attention_hidden_size // self.head_size
