"""The sizes of an RWKV-4."""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_sweep.models.common.shape import RwkvShape


@dataclass(frozen=True)
class Rwkv4Config(RwkvShape):
    """Shape of an RWKV-4.

    Attributes:
        vocab_size: rows of the embedding table.
        hidden_size: width of the residual stream.
        num_hidden_layers: number of blocks.
        attention_hidden_size: width of keys and values.
        intermediate_size: width of the channel mix.
        layer_norm_epsilon: of the layer norms.
        head_size: each channel of the operator is by itself.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    attention_hidden_size: int
    intermediate_size: int
    layer_norm_epsilon: float = 1e-5
    head_size: int = 1

    @property
    def num_heads(self) -> int:
        return self.attention_hidden_size

    @property
    def state_size(self) -> None:
        """There are no matrix-valued states: of each channel an average of values, which is what the block gives."""
        return

    @property
    def lacking_kinds(self) -> tuple[str, ...]:
        """Linear layers, by their names in `precision.modules`, that these blocks do not have."""
        return ("time_mix.gate",)
