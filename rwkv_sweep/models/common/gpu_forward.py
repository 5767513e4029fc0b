"""What the forwards on a GPU of all generations have in common: where they run, how they multiply by the projections of
a time mix, and how they hand over a layer.

Shapes: T packed tokens, B sentences, D hidden size, E outputs of a projection, M projections, N spans of tokens,
X = M * T rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean
from rwkv_sweep.ops.common.availability import triton_missing
from rwkv_sweep.ops.common.packing import Packed

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.residual import Normed

LARGEST_HEAD = 64
"""A program keeps a head's whole state in registers."""


@functools.cache
def gpu_unsupported(head_size: int, device: torch.device) -> str | None:
    """Why the kernels cannot run on this GPU with heads of this size, in a few words; None where they can."""
    if head_size > LARGEST_HEAD:
        return f"heads of {head_size}, more than {LARGEST_HEAD}"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return f"compute capability {capability[0]}.{capability[1]}, less than 8.0"
    return None if triton_missing() is None else "Triton is not installed"


def hand_over_normed(index: int, normed: Normed, packed: Packed, on_layer: OnLayer, on_mean: OnMean | None) -> None:
    """Give layer `index` to its receivers, its means from the sums of spans where there are any."""
    from rwkv_sweep.ops.triton.residual import SPAN_TOKENS
    from rwkv_sweep.ops.triton.segment_mean import segment_mean

    if on_mean is not None and normed.sums_ND is not None:
        on_mean(index, segment_mean(normed.sums_ND, packed.span_offsets(SPAN_TOKENS), packed.cu_seqlens_B1))
    elif on_mean is not None:
        on_mean(index, segment_mean(normed.h_TD, packed.cu_seqlens_B1))
    on_layer(index, normed.h_TD)


def row_dtype(*linears: nn.Module) -> torch.dtype | None:
    """The 8-bit dtype in which all of these layers take their inputs, quantized row by row; None where not all do."""
    dtypes = {getattr(linear, "row_dtype", None) for linear in linears}
    return dtypes.pop() if len(dtypes) == 1 else None


def stacked_linears(linears: Sequence[Any]) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
    """Weights of these layers in one piece: [M, E, D] of plain ones, which share its memory from then on, or LLM.int8's
    with the maxima of their rows. None for what there is not.

    For inference: an optimizer would no longer reach the weights.
    """
    if all(hasattr(linear, "stays_on_device") for linear in linears):
        return None, linears[0].stacked(linears)
    if any(type(linear) is not nn.Linear for linear in linears):
        return None, None
    stack_MED = torch.stack([linear.weight.data for linear in linears])
    for linear, weight_ED in zip(linears, stack_MED, strict=True):
        linear.weight.data = weight_ED
    return stack_MED, None


def projections(
    linears: Sequence[Any],
    stack_MED: Tensor | None,
    stack_int8: tuple[Tensor, Tensor] | None,
    x_MTD: Tensor,
    scale_MT: Tensor | None = None,
) -> Sequence[Tensor]:
    """What each of these layers gives for its own input, [T, E] each, contiguous.

    Args:
        stack_MED, stack_int8: as `stacked_linears` gives them.
        x_MTD: inputs, which may be 8-bit rows already, with their scales in scale_MT.
    """
    if scale_MT is not None:
        return [linear.matmul(*inputs) for linear, *inputs in zip(linears, x_MTD, scale_MT, strict=True)]
    if stack_MED is not None:
        return torch.bmm(x_MTD, stack_MED.transpose(1, 2)).unbind()
    if stack_int8 is not None:
        from rwkv_sweep.ops.triton.quantized.llm_int8 import llm_int8_matmul

        return llm_int8_matmul(x_MTD, *stack_int8, x_MTD.dtype).unbind()
    if row_dtype(*linears) is not None:
        # One launch for the inputs of all of them.
        q_XD, scale_X = cast(Any, linears[0]).quantize(x_MTD.flatten(0, 1))
        return projections(linears, None, None, q_XD.view(x_MTD.shape), scale_X.view(x_MTD.shape[:2]))
    return [linear(x_TD).contiguous() for linear, x_TD in zip(linears, x_MTD, strict=True)]
