"""The blocks of an RWKV-6 on a GPU: cuBLAS (or whatever the linear layers are) for the matrix products, and Triton
kernels for everything between them. Same results as `blocks` to rounding, and the same precision: fp32 stream, norms,
decays and states, products in the dtype of their weights.

Per block: residual + norm + shift + mix, low-rank GEMM, five token-shift interpolations, four projections, decay's
low-rank GEMM, WKV with norm and gate, output; residual + norm + shift + two mixes, key and receptance, squared ReLU,
value.

Shapes: T packed tokens, B sentences, D hidden size, E outputs of a projection, F inner size of the channel mix, R rank
of the low-rank products, H heads of K key and V value channels, X = 4 * T rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import FP16_SQUARE_SCALE, GatedChannelMix
from rwkv_sweep.models.common.gpu_forward import hand_over_normed, row_dtype
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState, shift_states
from rwkv_sweep.models.rwkv6.blocks import Block, TimeMix
from rwkv_sweep.ops.common.cuda_branch import Branch
from rwkv_sweep.ops.common.number_formats import FP8
from rwkv_sweep.ops.common.packing import Packed

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.residual import Normed


def stack_projections(blocks: Sequence[Block]) -> None:
    """Lay the weights of each block's key, value, receptance and gate side by side, where all are plain linear layers.

    The layers stay as they are and share the memory. For inference: an optimizer would lose its hold on the weights.
    """
    from rwkv_sweep.models.quantization.weight_only_gpu import few_tokens_stack, few_tokens_weight, stacked_weights

    for block in blocks:
        mix, wide = block.attention, block.feed_forward
        wide.few_key, wide.few_value = few_tokens_weight(wide.key), few_tokens_weight(wide.value)
        linears = [mix.key, mix.value, mix.receptance, mix.gate]
        mix.few_4 = stacked_weights(linears)
        if all(hasattr(linear, "stays_on_device") for linear in linears):
            from rwkv_sweep.models.quantization.llm_int8_gpu import stacked  # imports bitsandbytes

            mix.stack_int8 = stacked(linears)
        if any(type(linear) is not nn.Linear for linear in linears):
            continue
        stack_4ED = torch.stack([linear.weight.data for linear in linears])
        for linear, weight_ED in zip(linears, stack_4ED, strict=True):
            linear.weight.data = weight_ED
        mix.stack_4ED, mix.few_4 = stack_4ED, few_tokens_stack(stack_4ED)


def run_blocks(
    blocks: Sequence[Block],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_state: OnState | None = None,
    on_mean: OnMean | None = None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, one after another; arguments as `rwkv6.run_blocks`."""
    from rwkv_sweep.ops.triton.residual import add_norm_mix

    if not blocks:
        return h_TD
    pooling = Branch(h_TD.device)
    normed = add_norm_mix(h_TD, None, None, *_next(blocks, -1), packed, _dtype(blocks[0]), amax=_bounded(blocks[0]))
    for index, block in enumerate(blocks):
        y_TD, state_BHKV = _time_mix(block, normed, packed, on_state is not None and index in layers)
        before_TD, wide = normed.h_TD, block.feed_forward
        added_TD = block.attention.output(y_TD).contiguous()
        dtype = row_dtype(wide.key, wide.receptance) or wide.matmul_dtype
        normed = add_norm_mix(normed.h_TD, added_TD, None, block.ln2, [wide.time_maa_k, wide.time_maa_r], packed, dtype)
        if on_state is not None and state_BHKV is not None:
            on_state(index, state_BHKV, shift_states(block, before_TD, normed.h_TD, packed))
        value_TD, gate_TD, scale = _channel_mix(wide, normed)
        norm, mixes = _next(blocks, index)
        sums = on_mean is not None and index in layers
        amax = norm is not None and _bounded(blocks[index + 1])
        normed = add_norm_mix(normed.h_TD, value_TD, gate_TD, norm, mixes, packed, _dtype(block), scale, sums, amax)
        if index in layers:
            pooling.run(partial(hand_over_normed, index, normed, packed, on_layer, on_mean), reads=normed)
    pooling.join()
    return normed.h_TD


def _next(blocks: Sequence[Block], index: int) -> tuple[nn.LayerNorm | None, Sequence[Tensor]]:
    """The norm and the mixes that the stream goes into behind block `index`; none behind the last."""
    if index + 1 == len(blocks):
        return None, []
    following = blocks[index + 1]
    return following.ln1, [following.attention.time_maa_x]


def _time_mix(block: Block, normed: Normed, packed: Packed, states: bool) -> tuple[Tensor, Tensor | None]:
    """What goes into the output projection [T, D], and the states where asked for."""
    from rwkv_sweep.ops.triton.time_mix import time_mix
    from rwkv_sweep.ops.triton.token_shift import interpolate_token_shifts
    from rwkv_sweep.ops.triton.token_shift_fp8 import interpolate_token_shifts_fp8

    mix = block.attention
    low_TR = normed.x_MTD[0] @ mix.time_maa_w1
    fixed = [mix.time_maa_w, mix.time_maa_k, mix.time_maa_v, mix.time_maa_r, mix.time_maa_g]
    beside = Branch(low_TR.device)
    if normed.amax_T is not None:
        bounds_4 = _bounds(mix, fixed)
        x_TD, *rows = interpolate_token_shifts_fp8(normed, block.ln1, low_TR, mix.time_maa_w2, fixed, packed, bounds_4)
        decay_TR = beside.run(lambda: x_TD @ mix.time_decay_w1)
        k_TD, v_TD, r_TD, gate_TD = _products(mix, *rows)
    else:
        x_5TD = interpolate_token_shifts(normed, block.ln1, low_TR, mix.time_maa_w2, fixed, packed)
        decay_TR = beside.run(lambda: x_5TD[0] @ mix.time_decay_w1)
        k_TD, v_TD, r_TD, gate_TD = _projections(mix, x_5TD[1:])
    beside.join()
    return time_mix(
        r_TD,
        k_TD,
        v_TD,
        gate_TD,
        decay_TR,
        mix.time_decay_w2,
        mix.time_decay,
        mix.time_faaaa,
        mix.ln_x,
        packed,
        states,
    )


def _projections(mix: TimeMix, x_4TD: Tensor) -> Sequence[Tensor]:
    """Key, value, receptance and gate, each [T, D]."""
    from rwkv_sweep.ops.triton.quantized.few_tokens import MOST_TOKENS, few_tokens_matmul

    if mix.few_4 is not None and x_4TD.shape[1] <= MOST_TOKENS:
        return few_tokens_matmul(x_4TD, mix.few_4).unbind()
    if mix.stack_4ED is not None:
        return torch.bmm(x_4TD, mix.stack_4ED.transpose(1, 2)).unbind()
    if mix.stack_int8 is not None:
        from rwkv_sweep.ops.triton.quantized.llm_int8 import llm_int8_matmul

        return llm_int8_matmul(x_4TD, *mix.stack_int8, x_4TD.dtype).unbind()
    linears = (mix.key, mix.value, mix.receptance, mix.gate)
    if row_dtype(*linears) is not None:
        # One launch for the inputs of all four.
        q_XD, scale_X = cast(Any, mix.key).quantize(x_4TD.flatten(0, 1))
        return _products(mix, q_XD.view(x_4TD.shape), scale_X.view(x_4TD.shape[:2]))
    return [linear(x_TD).contiguous() for linear, x_TD in zip(linears, x_4TD, strict=True)]


def _products(mix: TimeMix, rows_4TD: Tensor, scale_4T: Tensor) -> Sequence[Tensor]:
    """Key, value, receptance and gate, each [T, D], of inputs that are 8-bit rows already."""
    linears = (mix.key, mix.value, mix.receptance, mix.gate)
    return [cast(Any, linear).matmul(*inputs) for linear, *inputs in zip(linears, rows_4TD, scale_4T, strict=True)]


def _bounded(block: Block) -> bool:
    """Whether the mixes of this block's time mix may leave their kernel as fp8 rows."""
    mix = block.attention
    return row_dtype(mix.key, mix.value, mix.receptance, mix.gate) == FP8


def _bounds(mix: TimeMix, fixed: Sequence[Tensor]) -> Tensor:
    """See `ops.triton.token_shift_fp8.interpolation_bounds`; found once, since weights do not change in inference."""
    from rwkv_sweep.ops.triton.token_shift_fp8 import interpolation_bounds

    if mix.bounds_4 is None:
        mix.bounds_4 = interpolation_bounds(mix.time_maa_w2, fixed)
    return mix.bounds_4


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


def _dtype(block: Block) -> torch.dtype:
    return block.attention.time_maa_w1.dtype
