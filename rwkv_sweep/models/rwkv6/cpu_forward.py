"""The blocks of an RWKV-6 for inference on a CPU: PyTorch (or whatever the linear layers are) for the matrix products,
Numba kernels for everything between them. Same results as `blocks` to rounding: stream, norms, decays and states in
fp32, products in the dtype of their weights.

Shapes: T packed tokens, B sentences, D hidden size, F inner size of the channel mix, R rank of the low-rank products, A
width of the values, H heads of K key and V value channels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from rwkv_sweep.models.common.channel_mix import matmul
from rwkv_sweep.models.common.layer_handover import InnerReader, OnLayer, OnMean, OnState, OnValues
from rwkv_sweep.models.gated import cpu_forward as gated_cpu_forward
from rwkv_sweep.models.gated.cpu_forward import (
    TimeMixing,
    multiplications,
    one_thread_where,
    product,
    readable,
    run_gated_blocks,
    run_gated_blocks_inner,
    whole,
)
from rwkv_sweep.models.rwkv6.blocks import Block, TimeMix
from rwkv_sweep.models.rwkv6.cpu_prepared import prepare
from rwkv_sweep.models.rwkv6.cpu_run import run_prepared
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.residual import Normed
from rwkv_sweep.ops.numba.time_mix import time_mix
from rwkv_sweep.ops.numba.token_shift import interpolate_token_shifts_


def run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None = None,
    on_mean: OnMean | None = None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, one after another; arguments as `rwkv6.run_blocks`.

    A pair of sentences in a small model takes one thread, whatever PyTorch has.
    """
    ready = prepare(blocks) if on_state is None and packed.lengths else None
    if ready:
        with one_thread_where(len(h_TD) * multiplications(blocks[0]) < gated_cpu_forward.LITTLE):
            return run_prepared(ready, h_TD, packed, layers, on_layer, on_mean)
    receivers = (on_layer, on_state, on_mean)
    return run_gated_blocks(blocks, h_TD, packed, layers, receivers, TimeMixing(_mixes, _time_mix, keep_norm=True))


def run_inner(blocks: Sequence[Block], h_TD: Tensor, packed: Packed, reader: InnerReader) -> None:
    """`RunInner`, see `models.common.layer_handover`."""
    run_gated_blocks_inner(blocks, h_TD, packed, reader, mixing=TimeMixing(_mixes, _time_mix, keep_norm=True))


def _mixes(mix: TimeMix) -> Sequence[Tensor]:
    return [mix.time_maa_x]


def _time_mix(
    mix: TimeMix, normed: Normed, packed: Packed, states: bool, on_values: OnValues | None
) -> tuple[Tensor, Tensor | None]:
    """What the half-block adds to the stream [T, D], and the states where asked for; the values [T, A] go to
    `on_values`."""
    dtype = mix.time_maa_w1.dtype
    low_5TR = product(normed.mixed_MTD[0], mix.time_maa_w1).tanh_().unflatten(-1, (5, -1)).transpose(0, 1)
    moved_5TD = readable(matmul(low_5TR, mix.time_maa_w2))
    fixed = (mix.time_maa_w, mix.time_maa_k, mix.time_maa_v, mix.time_maa_r, mix.time_maa_g)
    fixed_5D = torch.cat(fixed).flatten(1).float()
    xw, xk, xv, xr, xg = interpolate_token_shifts_(moved_5TD, fixed_5D, normed.x_TD, packed).to(dtype)
    decay_TD = product(product(xw, mix.time_decay_w1).tanh_(), mix.time_decay_w2)
    v_TA = mix.value(xv)
    if on_values is not None:
        on_values(whole(v_TA))
    y_TD, state_BHKV = time_mix(
        mix.receptance(xr),
        mix.key(xk),
        v_TA,
        mix.gate(xg),
        decay_TD,
        whole(mix.time_decay.flatten()),
        whole(mix.time_faaaa),
        mix.ln_x,
        packed,
        states,
    )
    return readable(mix.output(y_TD.to(dtype))), state_BHKV
