"""What the forwards on a GPU of all generations have in common: where they run, and how they hand over a layer.

Shapes: T packed tokens, B sentences, D hidden size, N spans of tokens.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import nn

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
