"""RWKV-6 ("Finch", arXiv 2404.05892) over packed batches, in the parameter layout of RWKV/v6-Finch-1B6-HF.

Shapes: T packed tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import GatedChannelMix, matmul
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, RunInner, hand_over, plain_step, run_plain
from rwkv_sweep.models.common.rwkv_network import RunBlocks, RwkvModel
from rwkv_sweep.models.rwkv6 import triton_forward
from rwkv_sweep.models.rwkv6.blocks import Block, TimeMix
from rwkv_sweep.models.rwkv6.configuration import Rwkv6Config
from rwkv_sweep.ops.common.packing import Packed

__all__ = [
    "Block",
    "GatedChannelMix",
    "OnLayer",
    "OnMean",
    "OnState",
    "Rwkv6Config",
    "Rwkv6Lm",
    "Rwkv6Model",
    "TimeMix",
    "matmul",
]


class Rwkv6Model(RwkvModel):
    """The blocks without the output head: what embeddings need."""

    generation = 6
    config: Rwkv6Config

    def __init__(self, config: Rwkv6Config) -> None:
        super().__init__(config, (Block(config, index) for index in range(config.num_hidden_layers)))

    def plain_blocks(self) -> RunBlocks:
        """See `RwkvModel.plain_blocks`."""
        return run_blocks

    def inner_runner(self, read: Tensor) -> RunInner:
        """See `RwkvModel.inner_runner`."""
        if read.is_cuda or self.runs_plain(read):
            return partial(run_plain, time_mix=plain_step)
        from rwkv_sweep.models.rwkv6 import cpu_forward  # imports Numba, which training and GPUs do without

        return cpu_forward.run_inner

    def fused_blocks(self, device: torch.device) -> RunBlocks:
        """See `RwkvModel.fused_blocks`."""
        if device.type == "cuda":
            return triton_forward.run_blocks
        from rwkv_sweep.models.rwkv6 import cpu_forward  # imports Numba, which training and GPUs do without

        return cpu_forward.run_blocks

    def prepare_for_triton(self) -> None:
        """See `RwkvModel.prepare_for_triton`."""
        triton_forward.stack_projections(cast(Sequence[Block], self.blocks))


def run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None = None,
    on_mean: OnMean | None = None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, one after another; see `RwkvModel.forward` for the rest."""
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
