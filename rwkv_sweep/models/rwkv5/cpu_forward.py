"""The blocks of an RWKV-5 for inference on a CPU: PyTorch (or whatever the linear layers are) for the matrix products,
Numba kernels for everything between them. Same results as `blocks` to rounding: stream, norms and states in fp32,
products in the dtype of their weights.

Shapes: T packed tokens, B sentences, D hidden size, A width of keys and values, H heads of K key and V value channels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from rwkv_sweep.models.common.layer_handover import InnerReader, OnLayer, OnMean, OnState, OnValues
from rwkv_sweep.models.gated.cpu_forward import (
    TimeMixing,
    readable,
    run_gated_blocks,
    run_gated_blocks_inner,
    whole,
)
from rwkv_sweep.models.rwkv5.blocks import Block, TimeMix
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.residual import Normed
from rwkv_sweep.ops.numba.time_mix import time_mix


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
    return [mix.time_maa_k, mix.time_maa_v, mix.time_maa_r, mix.time_maa_g]


def _time_mix(
    mix: TimeMix, normed: Normed, packed: Packed, states: bool, on_values: OnValues | None
) -> tuple[Tensor, Tensor | None]:
    """What the half-block adds to the stream [T, D], and the states where asked for; the values [T, A] go to
    `on_values`."""
    xk, xv, xr, xg = normed.mixed_MTD.to(mix.matmul_dtype)
    v_TA = mix.value(xv)
    if on_values is not None:
        on_values(whole(v_TA))
    y_TA, state_BHKV = time_mix(
        mix.receptance(xr),
        mix.key(xk),
        v_TA,
        mix.gate(xg),
        None,
        whole(mix.time_decay.flatten()),
        whole(mix.time_faaaa),
        mix.ln_x,
        packed,
        states,
    )
    return readable(mix.output(y_TA.to(mix.matmul_dtype))), state_BHKV
