"""The blocks of an RWKV-7 for inference on a CPU: PyTorch (or whatever the linear layers are) for the matrix products,
Numba kernels for everything between them. Same results as `blocks` to rounding: stream, norms, decays and states in
fp32, products in the dtype of their weights.

Shapes: T packed tokens, B sentences, D hidden size, F inner size of the channel mix, H heads of K key and V value
channels; of a low-rank factor K inputs and N outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from rwkv_sweep.models.common.channel_mix import FP16_SQUARE_SCALE, matmul
from rwkv_sweep.models.common.layer_handover import InnerReader, OnLayer, OnMean, OnState, OnValues, hand_over
from rwkv_sweep.models.gated import cpu_forward as gated_cpu_forward
from rwkv_sweep.models.rwkv7.blocks import Block, ChannelMix, TimeMix
from rwkv_sweep.ops.common.onednn import matmul_fp32
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.residual import Normed, add_norm_mix
from rwkv_sweep.ops.numba.square import relu_square_
from rwkv_sweep.ops.numba.wkv7 import Rows, time_mix7


def run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None = None,
    on_mean: OnMean | None = None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, one after another; arguments as `network.run_blocks`.

    A pair of sentences in a small model takes one thread, whatever PyTorch has.
    """
    with gated_cpu_forward.one_thread_where(
        bool(blocks) and len(h_TD) * _multiplications(blocks[0]) < gated_cpu_forward.LITTLE
    ):
        return _run_blocks(blocks, h_TD, packed, layers, on_layer, on_state, on_mean)


def _multiplications(block: Block) -> int:
    """Of the linear layers, a token."""
    mix, wide = block.attention, block.feed_forward
    layers = [mix.receptance, mix.key, mix.value, mix.output, wide.key, wide.value]
    return sum(layer.in_features * layer.out_features for layer in layers)


def _run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None,
    on_mean: OnMean | None,
) -> Tensor:
    value_TD = first_TD = None
    for index, block in enumerate(blocks):
        mix, wide = block.attention, block.feed_forward
        mixes = [mix.x_r, mix.x_w, mix.x_k, mix.x_v, mix.x_a, mix.x_g]
        normed = add_norm_mix(h_TD, value_TD, None, block.ln1, mixes, packed, keep_norm=False)
        before_TD = normed.h_TD
        if index > 0 and index - 1 in layers:  # not the embedding, whose number is -1
            hand_over(index - 1, before_TD, packed, on_layer, on_mean)
        wanted = on_state is not None and index in layers
        added_TD, own_TD, state_BHKV = _time_mix(mix, normed, first_TD, packed, wanted, None)
        first_TD = own_TD if first_TD is None else first_TD
        normed = add_norm_mix(before_TD, added_TD, None, block.ln2, [wide.x_k], packed, keep_norm=False)
        h_TD = normed.h_TD
        if on_state is not None and state_BHKV is not None:
            pairs = ((block.ln1, before_TD), (block.ln2, h_TD))
            shift_B2D = torch.stack([norm(stream.index_select(0, packed.last_B)) for norm, stream in pairs], 1)
            on_state(index, state_BHKV, shift_B2D)
        value_TD = _channel_mix(wide, normed.mixed_MTD[0])
    if value_TD is not None:
        h_TD = h_TD + value_TD
    if blocks and len(blocks) - 1 in layers:
        hand_over(len(blocks) - 1, h_TD, packed, on_layer, on_mean)
    return h_TD


def run_inner(blocks: Sequence[Block], h_TD: Tensor, packed: Packed, reader: InnerReader) -> None:
    """`RunInner`, see `models.common.layer_handover`."""
    little = bool(blocks) and len(h_TD) * _multiplications(blocks[0]) < gated_cpu_forward.LITTLE
    with gated_cpu_forward.one_thread_where(little):
        value_TD = first_TD = None
        for index, block in enumerate(blocks):
            mix, wide = block.attention, block.feed_forward
            mixes = [mix.x_r, mix.x_w, mix.x_k, mix.x_v, mix.x_a, mix.x_g]
            normed = add_norm_mix(h_TD, value_TD, None, block.ln1, mixes, packed, keep_norm=False)
            before_TD = normed.h_TD
            added_TD, own_TD, _ = _time_mix(mix, normed, first_TD, packed, False, reader.on_values(index))
            first_TD = own_TD if first_TD is None else first_TD
            reader.time_mix(index, added_TD)
            if index + 1 == len(blocks):
                return
            normed = add_norm_mix(before_TD, added_TD, None, block.ln2, [wide.x_k], packed, keep_norm=False)
            h_TD, value_TD = normed.h_TD, _channel_mix(wide, normed.mixed_MTD[0])


def _time_mix(
    mix: TimeMix,
    normed: Normed,
    first_TD: Tensor | None,
    packed: Packed,
    states: bool,
    on_values: OnValues | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the half-block adds to the stream, its own value (both [T, D]), and the states where asked for.

    `on_values` receives the values as the operator reads them, with the value residual, [T, D].
    """
    dtype = mix.w1.dtype
    xr, xw, xk, xv, xa, xg = normed.mixed_MTD.to(dtype)
    v_TD = _whole(mix.value(xv))
    rows = Rows(
        r_TD=_whole(mix.receptance(xr)),
        k_TD=_whole(mix.key(xk)),
        v_TD=v_TD,
        decay_TD=_whole(_product(_product(xw, mix.w1).float().tanh_(), mix.w2)),
        rate_TD=_whole(_product(_product(xa, mix.a1), mix.a2)),
        gate_TD=_whole(_product(_product(xg, mix.g1).float().sigmoid_(), mix.g2)),
        first_TD=first_TD,
        share_TD=None if first_TD is None else _whole(_product(_product(xv, mix.v1), mix.v2)),
    )
    if on_values is not None:
        on_values(_with_residual(mix, rows))
    residual = mix.w0 if first_TD is None else mix.v0
    vectors_6D = torch.stack((mix.w0, mix.a0, residual, mix.k_k, mix.k_a, mix.r_k))
    y_TD, state_BHKV = time_mix7(rows, vectors_6D, mix.ln_x, packed, states)
    return _whole(mix.output(y_TD.to(dtype))), v_TD, state_BHKV


def _with_residual(mix: TimeMix, rows: Rows) -> Tensor:
    """Values [T, D], moved towards those of block 0 as the kernel does it."""
    if rows.first_TD is None or rows.share_TD is None:
        return rows.v_TD
    return torch.lerp(rows.v_TD, rows.first_TD, torch.sigmoid(mix.v0 + rows.share_TD))


def _product(x_TK: Tensor, factor_KN: Tensor) -> Tensor:
    """x @ factor of a low-rank product, [T, N]; in fp32 by the library of the linear layers."""
    if factor_KN.dtype == torch.float32:
        return matmul_fp32(x_TK, factor_KN.t())
    return matmul(x_TK, factor_KN)


def _channel_mix(mix: ChannelMix, mixed_TD: Tensor) -> Tensor:
    """What the half-block adds to the stream, [T, D] in fp32."""
    dtype = mix.matmul_dtype
    k_TF = mix.key(mixed_TD.to(dtype))
    if dtype == torch.float32:
        return _whole(mix.value(relu_square_(_whole(k_TF))))
    scale = FP16_SQUARE_SCALE if dtype == torch.float16 else 1.0
    value_TD = mix.value((torch.relu(k_TF).div_(scale) ** 2).to(dtype)).float() * scale**2
    return value_TD.contiguous()


def _whole(x: Tensor) -> Tensor:
    """In fp32 and without gaps, as the kernels read it."""
    return x.float().contiguous()
