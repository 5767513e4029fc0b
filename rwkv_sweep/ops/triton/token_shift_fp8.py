"""The five token-shift interpolations of a time mix, four of them leaving their kernel as fp8 rows.

Shapes: T packed tokens, D hidden size, R rank of each low-rank product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rwkv_sweep.ops.common.number_formats import FP8
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.triton.residual import Normed
from rwkv_sweep.ops.triton.token_shift import launch


def interpolate_token_shifts_fp8(
    normed: Normed,
    norm: nn.LayerNorm,
    low_TR: Tensor,
    high_5RD: Tensor,
    fixed: Sequence[Tensor],
    packed: Packed,
    bounds_4: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `interpolate_token_shifts`, the last four as fp8 rows; in one pass, as no row's largest entry has to be known.

    A row's scale only has to keep it within the range: fp8 is as precise far below its largest number as near to it. So
    it comes from a bound: no entry of a mix is larger than amax + (amax + amax of the token before) * bound.

    Args:
        normed: with `amax_T`.
        bounds_4: largest size that (fixed + tanh(low) @ high) can have in each of the four, fp32.

    Returns:
        The first mix [T, D], the others' rows [4, T, D] in fp8, and their scales [4, T], fp32.
    """
    tokens, width = normed.h_TD.shape
    device = normed.h_TD.device
    first_TD = torch.empty(tokens, width, dtype=high_5RD.dtype, device=device)
    rows_4TD = torch.empty(4, tokens, width, dtype=FP8, device=device)
    scale_4T = torch.empty(4, tokens, device=device)
    launch(normed, norm, low_TR, high_5RD, fixed, packed, first_TD, rows_4TD, scale_4T, bounds_4)
    return first_TD, rows_4TD, scale_4T


def interpolation_bounds(high_5RD: Tensor, fixed: Sequence[Tensor]) -> Tensor:
    """The largest size that (fixed + tanh(low) @ high) can have in each of the last four mixes, fp32 [4]."""
    reach_5D = high_5RD.float().abs().sum(1)
    sizes = [(fixed_part.flatten().abs() + reach_D).max() for fixed_part, reach_D in zip(fixed, reach_5D, strict=True)]
    return torch.stack(sizes[1:])
