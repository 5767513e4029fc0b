"""RWKV-4 over packed batches.

Shapes: T packed tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from importlib.metadata import version
from typing import cast

import torch
from torch import Tensor

from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, RunInner, hand_over, plain_step, run_plain
from rwkv_sweep.models.common.rwkv_network import RunBlocks, RwkvModel
from rwkv_sweep.models.rwkv4.blocks import Block
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.ops.common.packing import Packed


class Rwkv4Model(RwkvModel):
    """The blocks without the output head: what embeddings need."""

    generation = 4
    config: Rwkv4Config

    def __init__(self, config: Rwkv4Config) -> None:
        super().__init__(config, (Block(config, index) for index in range(config.num_hidden_layers)))

    def runner(self, read: Tensor) -> RunBlocks:
        """See `RwkvModel.runner`."""
        return _compiled() if runs_compiled(cast(Sequence[Block], self.blocks), read.device) else run_blocks

    def inner_runner(self, read: Tensor) -> RunInner:
        """See `RwkvModel.inner_runner`."""
        if not runs_compiled(cast(Sequence[Block], self.blocks), read.device):
            return partial(run_plain, time_mix=plain_step)
        from rwkv_sweep.models.rwkv4 import cpu_forward  # imports Numba, which training and GPUs do without

        return cpu_forward.run_inner

    def path_tags(self, device: torch.device) -> dict[str, str]:
        """See `RwkvModel.path_tags`."""
        if device.type == "cpu":
            return {"blocks": f"fused (numba {version('numba')})", "wkv": "fused"}
        return {"blocks": f"PyTorch (RWKV-4 on device {device.type})", "wkv": "parallel scan"}

    def capture_obstacle(self, device: torch.device) -> str | None:
        """See `Network.capture_obstacle`."""
        return "the plain blocks of RWKV-4, whose scan has as many passes as the longest sentence asks for"


def runs_compiled(blocks: Sequence[Block], device: torch.device) -> bool:
    """Whether these blocks run with Numba kernels between their matrix products: in inference on a CPU."""
    trains = torch.is_grad_enabled() and blocks[0].ln1.weight.requires_grad
    return device.type == "cpu" and not trains and not torch.is_autocast_enabled("cpu")


def _compiled() -> RunBlocks:
    from rwkv_sweep.models.rwkv4 import cpu_forward  # imports Numba, which training and GPUs do without

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
    """The residual stream [T, D] through `blocks`, one after another; see `RwkvModel.forward` for the rest.

    on_state is never called: there are no matrix-valued states.
    """
    for index, block in enumerate(blocks):
        h_TD = block(h_TD, packed)
        if index in layers:
            hand_over(index, h_TD, packed, on_layer, on_mean)
    return h_TD
