"""The blocks of RWKV-4, 5 and 6 for inference on a CPU: all but the time mix, which each generation brings.

PyTorch (or whatever the linear layers are) for the matrix products, Numba kernels for everything between them.

Shapes: T packed tokens, B sentences, D hidden size, F inner size of the channel mix, H heads of K key and V value
channels, M mixes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.models.common.channel_mix import FP16_SQUARE_SCALE, GatedChannelMix
from rwkv_sweep.models.common.layer_handover import (
    InnerReader,
    OnLayer,
    OnMean,
    OnState,
    OnValues,
    hand_over,
    shift_states,
)
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.residual import Normed, add, add_norm_mix
from rwkv_sweep.ops.numba.square import relu_square_

LITTLE = 100_000_000
"""Multiplications of a block's linear layers that one thread does about as fast as two: there is one wait for the other
at the end of every GEMM and kernel, some twenty a block."""


@dataclass(frozen=True)
class TimeMixing:
    """What sets the time mix of one generation apart.

    Attributes:
        mixes: of a time mix, the shares of the token before that its inputs take.
        run: (time mix, its inputs, packed, whether states are wanted, receiver of the values or None) to what it adds
            to the stream [T, D], and the states [B, H, K, V] or None.
        keep_norm: whether `run` needs the norm of the stream too.
    """

    mixes: Callable[[Any], Sequence[Tensor]]
    run: Callable[[Any, Normed, Packed, bool, OnValues | None], tuple[Tensor, Tensor | None]]
    keep_norm: bool


def run_gated_blocks(
    blocks: Sequence[Any],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    receivers: tuple[OnLayer, OnState | None, OnMean | None],
    mixing: TimeMixing,
) -> Tensor:
    """The residual stream [T, D] through blocks of RWKV-4, 5 or 6, which share all but the time mix.

    Args:
        layers: as `RwkvModel.forward`, and so are the three receivers.
        mixing: the time mix of this generation.
    """
    with one_thread_where(bool(blocks) and len(h_TD) * _multiplications(blocks[0]) < LITTLE):
        return _run_blocks(blocks, h_TD, packed, layers, *receivers, mixing)


def run_gated_blocks_inner(
    blocks: Sequence[Any], h_TD: Tensor, packed: Packed, reader: InnerReader, *, mixing: TimeMixing
) -> None:
    """As `run_gated_blocks`, for `RwkvModel.inner_forward`: it ends behind the time mix of the last block."""
    with one_thread_where(bool(blocks) and len(h_TD) * _multiplications(blocks[0]) < LITTLE):
        value_TD = gate_TD = None
        for index, block in enumerate(blocks):
            mix, wide = block.attention, block.feed_forward
            normed = add_norm_mix(h_TD, value_TD, gate_TD, block.ln1, mixing.mixes(mix), packed, mixing.keep_norm)
            before_TD = normed.h_TD
            added_TD, _ = mixing.run(mix, normed, packed, False, reader.on_values(index))
            reader.time_mix(index, added_TD)
            if index + 1 == len(blocks):
                return
            maa = [wide.time_maa_k, wide.time_maa_r]
            normed = add_norm_mix(before_TD, added_TD, None, block.ln2, maa, packed, keep_norm=False)
            h_TD = normed.h_TD
            value_TD, gate_TD = _channel_mix(wide, normed)


def _multiplications(block: Any) -> int:
    """Of the linear layers, a token."""
    mix, wide = block.attention, block.feed_forward
    layers = [mix.receptance, mix.key, mix.value, mix.output, wide.receptance, wide.key, wide.value]
    layers += [mix.gate] if hasattr(mix, "gate") else []
    return sum(layer.in_features * layer.out_features for layer in layers)


@contextlib.contextmanager
def one_thread_where(little: bool) -> Iterator[None]:
    """Within it PyTorch takes one thread, where the work is little."""
    before = torch.get_num_threads()
    if not little or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_blocks(
    blocks: Sequence[Any],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None,
    on_mean: OnMean | None,
    mixing: TimeMixing,
) -> Tensor:
    value_TD = gate_TD = None
    for index, block in enumerate(blocks):
        mix, wide = block.attention, block.feed_forward
        normed = add_norm_mix(h_TD, value_TD, gate_TD, block.ln1, mixing.mixes(mix), packed, mixing.keep_norm)
        before_TD = normed.h_TD
        if index > 0 and index - 1 in layers:  # not the embedding, whose number is -1
            hand_over(index - 1, before_TD, packed, on_layer, on_mean)
        added_TD, state_BHKV = mixing.run(mix, normed, packed, on_state is not None and index in layers, None)
        maa = [wide.time_maa_k, wide.time_maa_r]
        normed = add_norm_mix(before_TD, added_TD, None, block.ln2, maa, packed, keep_norm=False)
        if on_state is not None and state_BHKV is not None:
            on_state(index, state_BHKV, shift_states(block, before_TD, normed.h_TD, packed))
        h_TD = normed.h_TD
        value_TD, gate_TD = _channel_mix(wide, normed)
    if value_TD is not None and gate_TD is not None:
        h_TD = add(h_TD, value_TD, gate_TD)
    if blocks and len(blocks) - 1 in layers:
        hand_over(len(blocks) - 1, h_TD, packed, on_layer, on_mean)
    return h_TD


def _channel_mix(mix: GatedChannelMix, normed: Normed) -> tuple[Tensor, Tensor]:
    """Value and its gate before the sigmoid, [T, D] in fp32."""
    dtype = mix.matmul_dtype
    xk_TD, xr_TD = normed.mixed_MTD.to(dtype)
    k_TF = mix.key(xk_TD)
    if dtype == torch.float32:
        return whole(mix.value(relu_square_(whole(k_TF)))), whole(mix.receptance(xr_TD))
    scale = FP16_SQUARE_SCALE if dtype == torch.float16 else 1.0
    value_TD = mix.value((torch.relu(k_TF).div_(scale) ** 2).to(dtype)).float() * scale**2
    return value_TD.contiguous(), whole(mix.receptance(xr_TD))


def whole(x: Tensor) -> Tensor:
    """In fp32 and without gaps, as the kernels read it."""
    return x.float().contiguous()
