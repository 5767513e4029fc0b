"""RWKV-6 ("Finch", arXiv 2404.05892) over packed batches, in the parameter layout of RWKV/v6-Finch-1B6-HF."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from rwkv_sweep.layers import EMBEDDING
from rwkv_sweep.models import fused, paths
from rwkv_sweep.models.blocks import Block, ChannelMix, OnLayer, OnMean, OnState, TimeMix, matmul
from rwkv_sweep.models.means import hand_over
from rwkv_sweep.models.packed import Packed
from rwkv_sweep.models.shape import Rwkv6Config

__all__ = [
    "Block",
    "ChannelMix",
    "OnLayer",
    "OnMean",
    "OnState",
    "Rwkv6Config",
    "Rwkv6Lm",
    "Rwkv6Model",
    "TimeMix",
    "matmul",
]


RunBlocks = Callable[..., Tensor]
"""As `run_blocks`."""


class Rwkv6Model(nn.Module):
    """The blocks without the output head: what embeddings need."""

    def __init__(self, config: Rwkv6Config) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_hidden_layers))
        self.ln_out = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        # Two mistakes of the study, for its reproduction: see `ModelConfig`.
        self.full_depth, self.rescale_every = False, 0

    def forward(
        self,
        input_ids: Tensor,
        packed: Packed,
        layers: Collection[int],
        on_layer: OnLayer,
        on_state: OnState | None = None,
        on_mean: OnMean | None = None,
    ) -> None:
        """Run as deep as the deepest of `layers` and hand over each of them.

        Args:
            input_ids: [T] packed token ids.
            packed: the sentences' lengths.
            layers: indices as in `rwkv_sweep.layers`.
            on_layer: called once for each of `layers`, from the shallowest on.
            on_state: called once for each block among `layers` (not for the embedding or the final norm), just before
                its on_layer. None costs nothing.
            on_mean: called once for each of `layers`, just before its on_layer; where the fused path runs, nearly free.
        """
        blocks = cast(Sequence[Block], self.blocks)
        run = run_blocks if paths.why_not(blocks, input_ids) else _fused(input_ids)
        if EMBEDDING in layers:
            hand_over(EMBEDDING, self._embedded(input_ids), packed, on_layer, on_mean)
        if self.rescale_every:
            on_layer, on_mean = _halved(on_layer, on_mean, self.rescale_every, len(blocks))
        # Handed straight on: kept here, the first stream would lie in memory as long as the blocks run.
        h_TD = run(blocks[: self.depth(layers)], self._embedded(input_ids), packed, layers, on_layer, on_state, on_mean)
        if len(blocks) in layers:
            hand_over(len(blocks), self.ln_out(h_TD), packed, on_layer, on_mean)

    def _embedded(self, input_ids: Tensor) -> Tensor:
        """The stream [T, D] before the first block, fp32."""
        first = cast(Block, self.blocks[0])
        assert first.pre_ln is not None
        stream_TD: Tensor = first.pre_ln(self.embeddings(input_ids).float())
        return stream_TD

    def depth(self, layers: Collection[int]) -> int:
        """Blocks that a forward for these layers runs."""
        return len(self.blocks) if self.full_depth else min(max(layers) + 1, len(self.blocks))


def _fused(read: Tensor) -> RunBlocks:
    """The fused forward where `read` lies."""
    if read.is_cuda:
        return fused.run_blocks
    from rwkv_sweep.models import fused_cpu  # imports Numba, which training and GPUs do without

    return fused_cpu.run_blocks


def _halved(on_layer: OnLayer, on_mean: OnMean | None, every: int, num_blocks: int) -> tuple[OnLayer, OnMean | None]:
    """Receivers that get block k as half-precision code with `rescale_every` has it: halved (k + 1) // every times.

    There weights and stream are halved, so that fp16 stays finite; the norms take the scale out again, but for their
    epsilon. Here the stream is fp32, and only what is handed over is scaled.
    """

    def scale(layer: int) -> float:
        return 0.5 ** ((layer + 1) // every) if 0 <= layer < num_blocks else 1.0

    def layer_scaled(layer: int, h_TD: Tensor) -> None:
        on_layer(layer, h_TD * scale(layer))

    def mean_scaled(layer: int, mean_BD: Tensor) -> None:
        assert on_mean is not None
        on_mean(layer, mean_BD * scale(layer))

    return layer_scaled, None if on_mean is None else mean_scaled


def run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None = None,
    on_mean: OnMean | None = None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, one after another; see `Rwkv6Model.forward` for the rest."""
    for index, block in enumerate(blocks):
        h_TD = block(h_TD, packed, partial(on_state, index) if on_state and index in layers else None)
        if index in layers:
            hand_over(index, h_TD, packed, on_layer, on_mean)
    return h_TD


class Rwkv6Lm(nn.Module):
    """The language model: `Rwkv6Model` and the output head. Used to train and to compare logits."""

    def __init__(self, config: Rwkv6Config) -> None:
        super().__init__()
        self.config = config
        self.rwkv = Rwkv6Model(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids: Tensor, packed: Packed) -> Tensor:
        """Packed ids [T] to logits [T, V], fp32."""
        final: list[Tensor] = []
        self.rwkv(input_ids, packed, [len(self.rwkv.blocks)], lambda _, h_TD: final.append(h_TD))
        return self.head(final[0].to(self.head.weight.dtype)).float()
