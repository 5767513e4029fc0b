"""The sizes of a network."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig


class Rwkv6Config(PretrainedConfig):
    """Shape of an RWKV-6, with the keys that RWKV/v6-Finch-1B6-HF uses in its config.json."""

    model_type = "rwkv6"

    def __init__(
        self,
        vocab_size: int = 65536,
        hidden_size: int = 2048,
        num_hidden_layers: int = 24,
        attention_hidden_size: int | None = None,
        head_size: int = 64,
        head_size_divisor: int = 8,
        intermediate_size: int | None = None,
        time_mix_extra_dim: int | None = None,
        time_decay_extra_dim: int | None = None,
        layer_norm_epsilon: float = 1e-5,
        **kwargs: object,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.attention_hidden_size = attention_hidden_size or hidden_size
        self.head_size = head_size
        self.head_size_divisor = head_size_divisor
        self.intermediate_size = intermediate_size or int(hidden_size * 3.5) // 32 * 32
        # The published sizes: 32 and 64, doubled for the 7B model.
        self.time_mix_extra_dim = time_mix_extra_dim or (64 if hidden_size == 4096 else 32)
        self.time_decay_extra_dim = time_decay_extra_dim or (128 if hidden_size == 4096 else 64)
        self.layer_norm_epsilon = layer_norm_epsilon
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    @property
    def num_heads(self) -> int:
        return self.attention_hidden_size // self.head_size


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


Shape = Rwkv6Config | EncoderShape
