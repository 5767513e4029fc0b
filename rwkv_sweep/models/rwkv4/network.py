"""RWKV-4 over packed batches.

Shapes: T packed tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, RunInner, hand_over, plain_step, run_plain
from rwkv_sweep.models.common.rwkv_network import RunBlocks, RwkvModel
from rwkv_sweep.models.rwkv4 import triton_forward
from rwkv_sweep.models.rwkv4.blocks import Block
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.ops.common.packing import Packed


class Rwkv4Model(RwkvModel):
    """The blocks without the output head: what embeddings need."""

    generation = 4
    plain_wkv = "parallel scan"
    config: Rwkv4Config

    def __init__(self, config: Rwkv4Config) -> None:
        super().__init__(config, (Block(config, index) for index in range(config.num_hidden_layers)))

    def plain_blocks(self) -> RunBlocks:
        """See `RwkvModel.plain_blocks`."""
        return run_blocks

    def inner_runner(self, read: Tensor) -> RunInner:
        """See `RwkvModel.inner_runner`."""
        if read.is_cuda or self.runs_plain(read):
            return partial(run_plain, time_mix=plain_step)
        from rwkv_sweep.models.rwkv4 import cpu_forward  # imports Numba, which training and GPUs do without

        return cpu_forward.run_inner

    def fused_blocks(self, device: torch.device) -> RunBlocks:
        """See `RwkvModel.fused_blocks`."""
        if device.type == "cuda":
            return triton_forward.run_blocks
        from rwkv_sweep.models.rwkv4 import cpu_forward  # imports Numba, which training and GPUs do without

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
    """The residual stream [T, D] through `blocks`, one after another; see `RwkvModel.forward` for the rest.

    on_state is never called: there are no matrix-valued states.
    """
    for index, block in enumerate(blocks):
        h_TD = block(h_TD, packed)
        if index in layers:
            hand_over(index, h_TD, packed, on_layer, on_mean)
    return h_TD
