"""The blocks of RWKV-4, 5 and 6 for inference on a GPU: all but the time mix, which each generation brings.

cuBLAS (or whatever the linear layers are) for the matrix products, and Triton kernels for everything between them.

Shapes: T packed tokens, B sentences, D hidden size, F inner size of the channel mix, H heads of K key and V value
channels, M mixes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import FP16_SQUARE_SCALE, GatedChannelMix
from rwkv_sweep.models.common.gpu_forward import hand_over_normed, row_dtype
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, shift_states
from rwkv_sweep.ops.common.cuda_branch import Branch
from rwkv_sweep.ops.common.packing import Packed

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.residual import Normed


def _never(_: Any) -> bool:
    return False


@dataclass(frozen=True)
class GpuTimeMixing:
    """What sets the time mix of one generation apart.

    Attributes:
        mixes: of a time mix, the shares of the token before that its inputs take.
        dtype: of a time mix, the dtype of these inputs, which may be one of 8-bit rows.
        run: (block, its inputs, packed, whether states are wanted) to what goes into the output projection, and the
            states [B, H, K, V] or None.
        bounded: of a time mix, whether `run` needs `Normed.amax_T`.
    """

    mixes: Callable[[Any], Sequence[Tensor]]
    dtype: Callable[[Any], torch.dtype]
    run: Callable[[Any, Normed, Packed, bool], tuple[Tensor, Tensor | None]]
    bounded: Callable[[Any], bool] = _never


def run_gated_blocks_on_gpu(
    blocks: Sequence[Any],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    receivers: tuple[OnLayer, OnState | None, OnMean | None],
    mixing: GpuTimeMixing,
) -> Tensor:
    """The residual stream [T, D] through blocks of RWKV-4, 5 or 6, which share all but the time mix.

    Args:
        layers: as `RwkvModel.forward`, and so are the three receivers.
        mixing: the time mix of this generation.
    """
    from rwkv_sweep.ops.triton.residual import add_norm_mix

    if not blocks:
        return h_TD
    on_layer, on_state, on_mean = receivers
    pooling = Branch(h_TD.device)
    norm, mixes, dtype, amax = _inputs(blocks, 0, mixing)
    normed = add_norm_mix(h_TD, None, None, norm, mixes, packed, dtype, amax=amax)
    for index, block in enumerate(blocks):
        y_TD, state_BHKV = mixing.run(block, normed, packed, on_state is not None and index in layers)
        before_TD, wide = normed.h_TD, block.feed_forward
        added_TD = block.attention.output(y_TD).contiguous()
        dtype = row_dtype(wide.key, wide.receptance) or wide.matmul_dtype
        normed = add_norm_mix(before_TD, added_TD, None, block.ln2, [wide.time_maa_k, wide.time_maa_r], packed, dtype)
        if on_state is not None and state_BHKV is not None:
            on_state(index, state_BHKV, shift_states(block, before_TD, normed.h_TD, packed))
        value_TD, gate_TD, scale = _channel_mix(wide, normed)
        norm, mixes, dtype, amax = _inputs(blocks, index + 1, mixing)
        sums = on_mean is not None and index in layers
        normed = add_norm_mix(normed.h_TD, value_TD, gate_TD, norm, mixes, packed, dtype, scale, sums, amax)
        if index in layers:
            pooling.run(partial(hand_over_normed, index, normed, packed, on_layer, on_mean), reads=normed)
    pooling.join()
    return normed.h_TD


def _inputs(
    blocks: Sequence[Any], index: int, mixing: GpuTimeMixing
) -> tuple[nn.LayerNorm | None, Sequence[Tensor], torch.dtype, bool]:
    """The norm and the mixes that the stream goes into before block `index`, their dtype, and whether the largest sizes
    in rows of the norm are needed; no norm and no mixes behind the last block."""
    if index == len(blocks):
        return None, [], blocks[-1].feed_forward.matmul_dtype, False
    mix = blocks[index].attention
    return blocks[index].ln1, mixing.mixes(mix), mixing.dtype(mix), mixing.bounded(mix)


def _channel_mix(mix: GatedChannelMix, normed: Normed) -> tuple[Tensor, Tensor, float]:
    """Value, its gate before the sigmoid, and what the value must be multiplied by."""
    from rwkv_sweep.ops.triton.quantized.few_tokens import MOST_TOKENS, few_tokens_matmul
    from rwkv_sweep.ops.triton.square import relu_square

    beside = Branch(normed.h_TD.device)
    gate_TD = beside.run(lambda: _product(mix.receptance, normed, 1))
    if len(normed.h_TD) <= MOST_TOKENS and mix.few_key is not None and mix.few_value is not None:
        scale = FP16_SQUARE_SCALE if mix.matmul_dtype == torch.float16 else 1.0
        squares_1TF = few_tokens_matmul(normed.x_MTD[:1], mix.few_key, 1.0 / scale)
        value_TD = few_tokens_matmul(squares_1TF, mix.few_value)[0]
        beside.join()
        return value_TD, gate_TD, scale**2
    k_TF = _product(mix.key, normed, 0)
    if row_dtype(mix.value) is not None:
        rows = cast(Any, mix.value)
        value_TD, scale = rows.matmul(*rows.quantize(k_TF, square=True)), 1.0
    else:
        scale = FP16_SQUARE_SCALE if mix.matmul_dtype == torch.float16 else 1.0
        if hasattr(mix.value, "of_squares"):
            value_TD = cast(Any, mix.value).of_squares(k_TF, 1.0 / scale, mix.matmul_dtype)
        else:
            value_TD = mix.value(relu_square(k_TF, mix.matmul_dtype, scale)).contiguous()
    beside.join()
    return value_TD, gate_TD, scale**2


def _product(linear: nn.Module, normed: Normed, index: int) -> Tensor:
    """A layer's output for one of the mixes, which may be quantized rows already."""
    if normed.scale_MT is None:
        return linear(normed.x_MTD[index]).contiguous()
    return cast(Any, linear).matmul(normed.x_MTD[index], normed.scale_MT[index])
