"""The blocks of an RWKV-7 on a GPU: cuBLAS (or whatever the linear layers are) for the matrix products, and Triton
kernels for everything between them. Same results as `blocks` to rounding, and the same precision: fp32 stream, norms,
decays and states, products in the dtype of their weights.

Per block: residual + norm + shift + mixes, three projections, first factors of all low-rank products, their second
factors, WKV with all around it, output; residual + norm + shift + mix, key, squared ReLU, value.

Shapes: T packed tokens, B sentences, D hidden size, E = D outputs of a projection, F width of the channel mix, G
low-rank products, H heads of K channels (V = K), M mixes, S columns of all first low-rank factors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rwkv_sweep.models.common.channel_mix import FP16_SQUARE_SCALE
from rwkv_sweep.models.common.gpu_forward import hand_over_normed, projections, row_dtype, stacked_linears
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, shift_states
from rwkv_sweep.models.rwkv7.blocks import Block, ChannelMix, TimeMix
from rwkv_sweep.models.rwkv7.gpu_weights import GpuWeights
from rwkv_sweep.ops.common.cuda_branch import Branch
from rwkv_sweep.ops.common.packing import Packed

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.residual import Normed


def gpu_weights(mix: TimeMix) -> GpuWeights:
    """Lay the small tensors of a time mix side by side; they are copies."""
    from rwkv_sweep.ops.triton.low_rank import PLAIN, SIGMOID, TANH, LowRankFactors

    inner = {"w": TANH, "a": PLAIN, "g": SIGMOID} | ({} if mix.first else {"v": PLAIN})
    first, high, mixes = (
        [mix.get_parameter(name).detach() for name in names]
        for names in ([f"{g}1" for g in inner], [f"{g}2" for g in inner], [f"x_{g}" for g in inner])
    )
    vectors = [mix.w0, mix.a0, mix.k_k, mix.k_a, mix.r_k, mix.w0 if mix.first else mix.v0]
    return GpuWeights(
        mixes=[mix.x_r, mix.x_k, mix.x_v, torch.zeros_like(mix.x_r)],
        factors=LowRankFactors.of(first, high, mixes, list(inner.values())),
        vectors_6D=torch.stack([vector.detach().float().flatten() for vector in vectors]),
    )


def prepare_blocks(blocks: Sequence[Block]) -> None:
    """Lay the weights of each block as the kernels read them.

    Parameters stay as they are and share the memory, but for the first low-rank factors, which are kept a second and a
    third time, times their mixes. For inference: weights that change afterwards would not be read.
    """
    from rwkv_sweep.ops.triton.low_rank import share_memory

    for block in blocks:
        mix = block.attention
        weights = gpu_weights(mix)
        names = ["w2", "a2", "g2"] + ([] if mix.first else ["v2"])
        share_memory(weights.factors, [mix.get_parameter(name) for name in names])
        mix.register_buffer("mixed_factors", weights.factors.first_DS, persistent=False)
        stack_3ED, stack_int8 = stacked_linears([mix.receptance, mix.key, mix.value])
        mix.gpu_weights = replace(weights, stack_3ED=stack_3ED, stack_int8=stack_int8)


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
    from rwkv_sweep.ops.triton.residual import add_norm_mix

    if not blocks:
        return h_TD
    pooling, first_TD = Branch(h_TD.device), None
    # A model that was not prepared may still change: its weights are laid anew in each forward.
    weights = [block.attention.gpu_weights or gpu_weights(block.attention) for block in blocks]
    normed = add_norm_mix(h_TD, None, None, blocks[0].ln1, weights[0].mixes, packed, _dtype(blocks[0]))
    for index, block in enumerate(blocks):
        states = on_state is not None and index in layers
        y_TD, own_TD, state_BHKV = _time_mix(block.attention, weights[index], normed, first_TD, packed, states)
        first_TD = own_TD if first_TD is None else first_TD
        before_TD, wide = normed.h_TD, block.feed_forward
        added_TD = block.attention.output(y_TD).contiguous()
        dtype = row_dtype(wide.key) or wide.matmul_dtype
        normed = add_norm_mix(before_TD, added_TD, None, block.ln2, [wide.x_k], packed, dtype)
        if on_state is not None and state_BHKV is not None:
            on_state(index, state_BHKV, shift_states(block, before_TD, normed.h_TD, packed))
        value_TD, scale = _channel_mix(wide, normed)
        last = index + 1 == len(blocks)
        norm, mixes = (None, []) if last else (blocks[index + 1].ln1, weights[index + 1].mixes)
        sums = on_mean is not None and index in layers
        normed = add_norm_mix(normed.h_TD, value_TD, None, norm, mixes, packed, _dtype(block), scale, sums)
        if index in layers:
            pooling.run(partial(hand_over_normed, index, normed, packed, on_layer, on_mean), reads=normed)
    pooling.join()
    return normed.h_TD


def _time_mix(
    mix: TimeMix, weights: GpuWeights, normed: Normed, first_TD: Tensor | None, packed: Packed, states: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What goes into the output projection, the block's own value (both [T, D]), and the states where asked for."""
    from rwkv_sweep.ops.triton.low_rank import low_rank_products
    from rwkv_sweep.ops.triton.rwkv7.time_mix7 import Rows7, time_mix7

    beside = Branch(normed.h_TD.device)
    low_GTD = beside.run(lambda: low_rank_products(normed.x_MTD[3], weights.factors, packed))
    linears = (mix.receptance, mix.key, mix.value)
    r_TD, k_TD, v_TD = projections(linears, weights.stack_3ED, weights.stack_int8, normed.x_MTD[:3])
    beside.join()
    decay_TD, rate_TD, gate_TD = low_GTD[:3]
    share_TD = None if first_TD is None else low_GTD[3]
    rows = Rows7(r_TD, k_TD, v_TD, decay_TD, rate_TD, gate_TD, share_TD, first_TD)
    y_TD, state_BHKV = time_mix7(rows, weights.vectors_6D, mix.ln_x, packed, mix.w1.dtype, states)
    return y_TD, v_TD, state_BHKV


def _channel_mix(mix: ChannelMix, normed: Normed) -> tuple[Tensor, float]:
    """What the half-block adds to the stream, [T, D], and what it must be multiplied by."""
    from rwkv_sweep.ops.triton.square import relu_square

    if normed.scale_MT is None:
        k_TF = mix.key(normed.x_MTD[0]).contiguous()
    else:
        k_TF = cast(Any, mix.key).matmul(normed.x_MTD[0], normed.scale_MT[0])
    if row_dtype(mix.value) is not None:
        rows = cast(Any, mix.value)
        return rows.matmul(*rows.quantize(k_TF, square=True)), 1.0
    scale = FP16_SQUARE_SCALE if mix.matmul_dtype == torch.float16 else 1.0
    if hasattr(mix.value, "of_squares"):
        return cast(Any, mix.value).of_squares(k_TF, 1.0 / scale, mix.matmul_dtype), scale**2
    return mix.value(relu_square(k_TF, mix.matmul_dtype, scale)).contiguous(), scale**2


def _dtype(block: Block) -> torch.dtype:
    return block.attention.w1.dtype
