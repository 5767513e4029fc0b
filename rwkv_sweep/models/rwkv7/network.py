"""RWKV-7 over packed batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from rwkv_sweep.layers import EMBEDDING
from rwkv_sweep.models.blocks import OnLayer, OnMean, OnState
from rwkv_sweep.models.means import hand_over
from rwkv_sweep.models.packed import Packed
from rwkv_sweep.models.rwkv6 import _halved
from rwkv_sweep.models.rwkv7.blocks import Block
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config

RunBlocks = Callable[..., Tensor]
"""As `run_blocks`."""


class Rwkv7Model(nn.Module):
    """The blocks without the output head: what embeddings need."""

    def __init__(self, config: Rwkv7Config) -> None:
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
            on_mean: called once for each of `layers`, just before its on_layer.
        """
        blocks = cast(Sequence[Block], self.blocks)
        run = _compiled() if runs_compiled(blocks, input_ids.device) else run_blocks
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
        stream_TD: Tensor = self.embeddings(input_ids).float()
        norm = cast(Block, self.blocks[0]).pre_ln
        return stream_TD if norm is None else cast(Tensor, norm(stream_TD))

    def depth(self, layers: Collection[int]) -> int:
        """Blocks that a forward for these layers runs."""
        return len(self.blocks) if self.full_depth else min(max(layers) + 1, len(self.blocks))


def runs_compiled(blocks: Sequence[Block], device: torch.device) -> bool:
    """Whether these blocks run with compiled loops between their matrix products: in inference on a CPU."""
    trains = torch.is_grad_enabled() and blocks[0].ln1.weight.requires_grad
    return device.type == "cpu" and not trains and not torch.is_autocast_enabled("cpu")


def _compiled() -> RunBlocks:
    from rwkv_sweep.models.rwkv7 import cpu_forward  # imports Numba, which training and GPUs do without

    return cpu_forward.run_blocks


def run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None = None,
    on_mean: OnMean | None = None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, one after another; see `Rwkv7Model.forward` for the rest."""
    first_value_TD: Tensor | None = None
    for index, block in enumerate(blocks):
        receiver = partial(on_state, index) if on_state and index in layers else None
        h_TD, first_value_TD = block(h_TD, packed, first_value_TD, receiver)
        if index in layers:
            hand_over(index, h_TD, packed, on_layer, on_mean)
    return h_TD
