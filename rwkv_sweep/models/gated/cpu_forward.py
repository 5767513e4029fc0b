"""The blocks of RWKV-4, 5 and 6 for inference on a CPU: all but the time mix, which each generation brings.

PyTorch (or whatever the linear layers are) for the matrix products, Numba kernels for everything between them.

Shapes: T packed tokens, B sentences, D hidden size, F inner size of the channel mix, H heads of K key and V value
channels, M mixes; of a matrix product K inputs and N outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.models.common.channel_mix import FP16_SQUARE_SCALE, GatedChannelMix, matmul
from rwkv_sweep.models.common.layer_handover import (
    InnerReader,
    OnLayer,
    OnMean,
    OnState,
    OnValues,
    hand_over,
    shift_states,
)
from rwkv_sweep.ops.common.onednn import matmul_fp32
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
            to the stream [T, D], fp32 or bf16, and the states [B, H, K, V] or None.
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
    with one_thread_where(bool(blocks) and len(h_TD) * multiplications(blocks[0]) < LITTLE):
        return _run_blocks(blocks, h_TD, packed, layers, *receivers, mixing)


def run_gated_blocks_inner(
    blocks: Sequence[Any], h_TD: Tensor, packed: Packed, reader: InnerReader, *, mixing: TimeMixing
) -> None:
    """As `run_gated_blocks`, for `RwkvModel.inner_forward`: it ends behind the time mix of the last block."""
    with one_thread_where(bool(blocks) and len(h_TD) * multiplications(blocks[0]) < LITTLE):
        value_TD = gate_TD = None
        for index, block in enumerate(blocks):
            mix, wide = block.attention, block.feed_forward
            normed = add_norm_mix(
                h_TD, value_TD, gate_TD, block.ln1, mixing.mixes(mix), packed, mixing.keep_norm, wide.matmul_dtype
            )
            before_TD = normed.h_TD
            added_TD, _ = mixing.run(mix, normed, packed, False, reader.on_values(index))
            reader.time_mix(index, added_TD.float())
            if index + 1 == len(blocks):
                return
            maa = [wide.time_maa_k, wide.time_maa_r]
            normed = add_norm_mix(before_TD, added_TD, None, block.ln2, maa, packed, False, wide.matmul_dtype)
            h_TD = normed.h_TD
            value_TD, gate_TD = _channel_mix(wide, normed)


def multiplications(block: Any) -> int:
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
        normed = add_norm_mix(
            h_TD, value_TD, gate_TD, block.ln1, mixing.mixes(mix), packed, mixing.keep_norm, wide.matmul_dtype
        )
        before_TD = normed.h_TD
        if index > 0 and index - 1 in layers:  # not the embedding, whose number is -1
            hand_over(index - 1, before_TD, packed, on_layer, on_mean)
        added_TD, state_BHKV = mixing.run(mix, normed, packed, on_state is not None and index in layers, None)
        maa = [wide.time_maa_k, wide.time_maa_r]
        normed = add_norm_mix(before_TD, added_TD, None, block.ln2, maa, packed, False, wide.matmul_dtype)
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
    """Value and its gate before the sigmoid, [T, D] in fp32 or bf16."""
    xk_TD, xr_TD = normed.mixed_MTD
    gate_TD = readable(mix.receptance(xr_TD))
    return readable(square_and_value(mix.value, mix.key(xk_TD), mix.matmul_dtype)), gate_TD


def square_and_value(value: Any, k_TF: Tensor, dtype: torch.dtype) -> Tensor:
    """value(relu(k)^2), [T, D], with the square in `dtype`; k may be written over."""
    if dtype == torch.float16:
        square_TF = (torch.relu(k_TF).div_(FP16_SQUARE_SCALE) ** 2).to(dtype)
        return value(square_TF).float() * FP16_SQUARE_SCALE**2
    return value(relu_square_(readable(k_TF)).to(dtype))


def whole(x: Tensor) -> Tensor:
    """In fp32 and without gaps."""
    return x.float().contiguous()


def readable(x: Tensor) -> Tensor:
    """Without gaps and in a dtype that the kernels read: fp32, or bf16 as it is."""
    return x.contiguous() if x.dtype == torch.bfloat16 else x.float().contiguous()


def product(x_TK: Tensor, factor_KN: Tensor) -> Tensor:
    """x @ factor of a low-rank product, [T, N], in fp32 or bf16; in fp32 by the library of the linear layers."""
    if factor_KN.dtype == torch.float32:
        return matmul_fp32(x_TK, factor_KN.t())
    return readable(matmul(x_TK, factor_KN))
