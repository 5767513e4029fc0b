"""Half-quadratic quantization (HQQ, Badri and Shaji 2023): zeros that fit the weights, found without any data.

Rounding to the range of a group lets its largest weights decide all the others. HQQ minimizes sum |w - w'|^p with p < 1
over the zero of each group instead, which forgives large errors of few weights, by alternating between the errors that
are to be forgiven (a shrinkage) and the zero that is best for the rest (a mean).

Shapes: N outputs, K inputs of a linear layer, W = K rounded up to whole groups, G groups of C weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.groupwise import (
    GROUP,
    LARGEST_INT4,
    GroupCodes,
    dequantize_codes,
    group_ranges,
    nearest_codes,
    padded,
)

NORM = 0.7
"""p of the paper."""
STEPS, FIRST_PENALTY, PENALTY_GROWTH = 20, 10.0, 1.01
"""Iterations, and beta and kappa of the paper."""


def hqq_codes(weight_NK: Tensor) -> GroupCodes:
    """Codes for fp32 weights; of each group the best of all steps, plain rounding among them."""
    weight_NW = padded(weight_NK)
    scale_NG, zero_NG = group_ranges(weight_NW)
    best = GroupCodes(nearest_codes(weight_NW, scale_NG, zero_NG), scale_NG, zero_NG)
    least_NG = objective(weight_NW, best)
    weight_NGC, scale_NG1 = weight_NW.unflatten(1, (-1, GROUP)), scale_NG.float()[..., None]
    # In steps of the code: groups of zeros have no step, and stay as they are.
    steps_NGC = torch.where(scale_NG1 == 0, 0.0, weight_NGC / scale_NG1.where(scale_NG1 != 0, 1.0))
    penalty, codes = FIRST_PENALTY, best
    for _ in range(STEPS):
        error_NGC = (weight_NW - dequantize_codes(codes)).unflatten(1, (-1, GROUP))
        forgiven_NGC = torch.where(scale_NG1 == 0, 0.0, _shrunk(error_NGC, penalty) / scale_NG1.clamp_min(1e-8))
        q_NGC = codes.q_NW.unflatten(1, (-1, GROUP)).float()
        zero_NG = (q_NGC - (steps_NGC - forgiven_NGC)).mean(-1).clamp_(-LARGEST_INT4, 2 * LARGEST_INT4).half()
        codes = GroupCodes(nearest_codes(weight_NW, scale_NG, zero_NG), scale_NG, zero_NG)
        error_NG = objective(weight_NW, codes)
        better_NG = error_NG < least_NG
        least_NG = torch.where(better_NG, error_NG, least_NG)
        better_NW = better_NG.repeat_interleave(GROUP, 1)
        best = GroupCodes(
            torch.where(better_NW, codes.q_NW, best.q_NW), scale_NG, torch.where(better_NG, zero_NG, best.zero_NG)
        )
        penalty *= PENALTY_GROWTH
    return best


def objective(weight_NW: Tensor, codes: GroupCodes) -> Tensor:
    """What HQQ minimizes: sum |w - w'|^p of each group, [N, G]."""
    return (weight_NW - dequantize_codes(codes)).abs().pow(NORM).unflatten(1, (-1, GROUP)).sum(-1)


def _shrunk(error: Tensor, penalty: float) -> Tensor:
    """The proximal step of |x|^p: errors moved towards 0 by |x|^(p - 1) / penalty, as far as 0."""
    size = error.abs()
    return error.sign() * torch.relu(size - size.clamp_min(1e-12).pow(NORM - 1) / penalty)
