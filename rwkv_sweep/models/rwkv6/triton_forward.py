"""The blocks of an RWKV-6 on a GPU: cuBLAS (or whatever the linear layers are) for the matrix products, and Triton
kernels for everything between them. Same results as `blocks` to rounding, and the same precision: fp32 stream, norms,
decays and states, products in the dtype of their weights.

Per block: residual + norm + shift + mix, low-rank GEMM, five token-shift interpolations, four projections, decay's
low-rank GEMM, WKV with norm and gate, output; residual + norm + shift + two mixes, key and receptance, squared ReLU,
value.

Shapes: T packed tokens, B sentences, D hidden size, E outputs of a projection, R rank of the low-rank products, H heads
of K key and V value channels, X rows of all projections together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from rwkv_sweep.models.common.gpu_forward import projections, row_dtype, stacked_linears
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState
from rwkv_sweep.models.gated.gpu_forward import GpuTimeMixing, run_gated_blocks_on_gpu
from rwkv_sweep.models.rwkv6.blocks import Block, TimeMix
from rwkv_sweep.ops.common.cuda_branch import Branch
from rwkv_sweep.ops.common.number_formats import FP8
from rwkv_sweep.ops.common.packing import Packed

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.residual import Normed


def stack_projections(blocks: Sequence[Block]) -> None:
    """Lay the weights of each block's key, value, receptance and gate side by side: see `stacked_linears`.

    Those that kernels for few tokens read in another layout, and those of the channel mix, are kept so too.
    """
    from rwkv_sweep.models.quantization.weight_only_gpu import few_tokens_stack, few_tokens_weight, stacked_weights

    for block in blocks:
        mix, wide = block.attention, block.feed_forward
        wide.few_key, wide.few_value = few_tokens_weight(wide.key), few_tokens_weight(wide.value)
        mix.stack_4ED, mix.stack_int8 = stacked_linears(_linears(mix))
        mix.few_4 = stacked_weights(_linears(mix)) if mix.stack_4ED is None else few_tokens_stack(mix.stack_4ED)


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
    mixing = GpuTimeMixing(lambda mix: [mix.time_maa_x], lambda mix: mix.time_maa_w1.dtype, _time_mix, _bounded)
    return run_gated_blocks_on_gpu(blocks, h_TD, packed, layers, (on_layer, on_state, on_mean), mixing)


def _linears(mix: TimeMix) -> list[nn.Module]:
    return [mix.key, mix.value, mix.receptance, mix.gate]


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
        k_TD, v_TD, r_TD, gate_TD = _of_rows(mix, *rows)
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
        mix.time_decay_w2.dtype,
        states,
    )


def _projections(mix: TimeMix, x_4TD: Tensor) -> Sequence[Tensor]:
    """Key, value, receptance and gate, each [T, D]."""
    from rwkv_sweep.ops.triton.quantized.few_tokens import MOST_TOKENS, few_tokens_matmul

    if mix.few_4 is None or x_4TD.shape[1] > MOST_TOKENS:
        return projections(_linears(mix), mix.stack_4ED, mix.stack_int8, x_4TD)
    if row_dtype(*_linears(mix)) is not None:
        # One launch for the inputs of all of them.
        q_XD, scale_X = cast(Any, mix.key).quantize(x_4TD.flatten(0, 1))
        return _of_rows(mix, q_XD.view(x_4TD.shape), scale_X.view(x_4TD.shape[:2]))
    return few_tokens_matmul(x_4TD, mix.few_4).unbind()


def _of_rows(mix: TimeMix, q_4TD: Tensor, scale_4T: Tensor) -> Sequence[Tensor]:
    """As `_projections`, of inputs that are 8-bit rows already."""
    from rwkv_sweep.ops.triton.quantized.few_tokens import MOST_TOKENS, few_tokens_matmul

    if mix.few_4 is None or q_4TD.shape[1] > MOST_TOKENS:
        return projections(_linears(mix), None, None, q_4TD, scale_4T)
    dtype = cast(Any, mix.key).out_dtype
    return few_tokens_matmul(q_4TD, mix.few_4, row_scale_GT=scale_4T, dtype=dtype).unbind()


def _bounded(mix: TimeMix) -> bool:
    """Whether the mixes of this time mix may leave their kernel as fp8 rows."""
    return row_dtype(*_linears(mix)) == FP8


def _bounds(mix: TimeMix, fixed: Sequence[Tensor]) -> Tensor:
    """See `ops.triton.token_shift_fp8.interpolation_bounds`; found once, since weights do not change in inference."""
    from rwkv_sweep.ops.triton.token_shift_fp8 import interpolation_bounds

    if mix.bounds_4 is None:
        mix.bounds_4 = interpolation_bounds(mix.time_maa_w2, fixed)
    return mix.bounds_4
