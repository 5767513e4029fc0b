"""The blocks of an RWKV-4 for inference on a CPU: PyTorch (or whatever the linear layers are) for the matrix products,
Numba kernels for everything between them. Same results as `blocks` to rounding: stream, norms and the operator in
fp32, products in the dtype of their weights.

Shapes: T packed tokens, D hidden size, A width of keys and values, M shares of the token before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from rwkv_sweep.models.common.layer_handover import InnerReader, OnLayer, OnMean, OnState, OnValues
from rwkv_sweep.models.gated.cpu_forward import (
    TimeMixing,
    readable,
    run_gated_blocks,
    run_gated_blocks_inner,
    whole,
)
from rwkv_sweep.models.rwkv4.blocks import Block, TimeMix
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.residual import Normed
from rwkv_sweep.ops.numba.wkv4 import wkv4


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
    mixing = TimeMixing(_mixes, _time_mix, keep_norm=False)
    return run_gated_blocks(blocks, h_TD, packed, layers, (on_layer, on_state, on_mean), mixing)


def run_inner(blocks: Sequence[Block], h_TD: Tensor, packed: Packed, reader: InnerReader) -> None:
    """`RunInner`, see `models.common.layer_handover`."""
    run_gated_blocks_inner(blocks, h_TD, packed, reader, mixing=TimeMixing(_mixes, _time_mix, keep_norm=False))


def _mixes(mix: TimeMix) -> Sequence[Tensor]:
    return [mix.time_maa_k, mix.time_maa_v, mix.time_maa_r]


def _time_mix(mix: TimeMix, normed: Normed, packed: Packed, _: bool, on_values: OnValues | None) -> tuple[Tensor, None]:
    """What the half-block adds to the stream [T, D]; there are no states. The values [T, A] go to `on_values`."""
    xk, xv, xr = normed.mixed_MTD.to(mix.matmul_dtype)
    log_w_A = -torch.exp(mix.time_decay)
    r_TA, k_TA, v_TA = whole(mix.receptance(xr)), whole(mix.key(xk)), whole(mix.value(xv))
    if on_values is not None:
        on_values(v_TA)
    y_TA = wkv4(r_TA, k_TA, v_TA, log_w_A, mix.time_first, packed)
    return readable(mix.output(y_TA.to(mix.matmul_dtype))), None
