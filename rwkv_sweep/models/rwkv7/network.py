"""RWKV-7 over packed batches.

Shapes: T packed tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, OnValues, RunInner, hand_over, run_plain
from rwkv_sweep.models.common.rwkv_network import RunBlocks, RwkvModel
from rwkv_sweep.models.rwkv7 import triton_forward
from rwkv_sweep.models.rwkv7.blocks import Block, TimeMix
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config
from rwkv_sweep.ops.common.packing import Packed


class Rwkv7Model(RwkvModel):
    """The blocks without the output head: what embeddings need."""

    generation = 7
    config: Rwkv7Config

    def __init__(self, config: Rwkv7Config) -> None:
        super().__init__(config, (Block(config, index) for index in range(config.num_hidden_layers)))

    def plain_blocks(self) -> RunBlocks:
        """See `RwkvModel.plain_blocks`."""
        return run_blocks

    def inner_runner(self, read: Tensor) -> RunInner:
        """See `RwkvModel.inner_runner`."""
        if read.is_cuda or self.runs_plain(read):
            return partial(run_plain, time_mix=_step)
        from rwkv_sweep.models.rwkv7 import cpu_forward  # imports Numba, which training and GPUs do without

        return cpu_forward.run_inner

    def fused_blocks(self, device: torch.device) -> RunBlocks:
        """See `RwkvModel.fused_blocks`."""
        if device.type == "cuda":
            return triton_forward.run_blocks
        from rwkv_sweep.models.rwkv7 import cpu_forward  # imports Numba, which training and GPUs do without

        return cpu_forward.run_blocks

    def prepare_for_triton(self) -> None:
        """See `RwkvModel.prepare_for_triton`."""
        triton_forward.prepare_blocks(cast(Sequence[Block], self.blocks))


def _step(
    mix: TimeMix, x_TD: Tensor, packed: Packed, first_value_TD: Tensor | None, on_values: OnValues | None
) -> tuple[Tensor, Tensor]:
    """`TimeMixStep`: block 0's value is handed on."""
    return mix(x_TD, packed, first_value_TD, on_values=on_values)


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
    first_value_TD: Tensor | None = None
    for index, block in enumerate(blocks):
        receiver = partial(on_state, index) if on_state and index in layers else None
        h_TD, first_value_TD = block(h_TD, packed, first_value_TD, receiver)
        if index in layers:
            hand_over(index, h_TD, packed, on_layer, on_mean)
    return h_TD
