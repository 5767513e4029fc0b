"""The blocks of an RWKV-4 on a GPU: cuBLAS (or whatever the linear layers are) for the matrix products, and Triton
kernels for everything between them. Same results as `blocks` to rounding, and the same precision: fp32 stream, norms,
decays and operator, products in the dtype of their weights.

Per block: residual + norm + shift + three mixes, three projections, WKV with receptance, output; residual + norm +
shift + two mixes, key and receptance, squared ReLU, value.

Shapes: T packed tokens, D hidden size, A width of keys and values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.gpu_forward import projections, row_dtype, stacked_linears
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState
from rwkv_sweep.models.gated.gpu_forward import GpuTimeMixing, run_gated_blocks_on_gpu
from rwkv_sweep.models.rwkv4.blocks import Block, TimeMix
from rwkv_sweep.ops.common.packing import Packed

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.residual import Normed


def stack_projections(blocks: Sequence[Block]) -> None:
    """Lay the weights of each block's key, value and receptance side by side: see `stacked_linears`."""
    for block in blocks:
        mix = block.attention
        mix.stack_3ED, mix.stack_int8 = stacked_linears(_linears(mix))


def run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None = None,
    on_mean: OnMean | None = None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, one after another; arguments as `network.run_blocks`."""
    mixing = GpuTimeMixing(_mixes, _dtype, _time_mix)
    return run_gated_blocks_on_gpu(blocks, h_TD, packed, layers, (on_layer, on_state, on_mean), mixing)


def _linears(mix: TimeMix) -> list[nn.Module]:
    return [mix.key, mix.value, mix.receptance]


def _mixes(mix: TimeMix) -> Sequence[Tensor]:
    """In the order of `_linears`."""
    return [mix.time_maa_k, mix.time_maa_v, mix.time_maa_r]


def _dtype(mix: TimeMix) -> torch.dtype:
    return row_dtype(*_linears(mix)) or mix.matmul_dtype


def _time_mix(block: Block, normed: Normed, packed: Packed, _: bool) -> tuple[Tensor, None]:
    """What goes into the output projection [T, A]; there are no states."""
    from rwkv_sweep.ops.triton.wkv4 import wkv4

    mix = block.attention
    k_TA, v_TA, r_TA = projections(_linears(mix), mix.stack_3ED, mix.stack_int8, normed.x_MTD, normed.scale_MT)
    return wkv4(r_TA, k_TA, v_TA, mix.time_decay, mix.time_first, packed, mix.matmul_dtype), None
