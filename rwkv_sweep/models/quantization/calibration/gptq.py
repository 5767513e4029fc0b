"""GPTQ (Frantar et al., arXiv 2210.17323): codes that make a layer's outputs, not its weights, change least.

Inputs are rounded one column after another; what the rounding of one adds to the outputs is taken out of the columns
that are still to come. Columns with the largest inputs come first (the paper's `act-order`); scales and zeros of the
groups are chosen beforehand.

Shapes: N outputs, K inputs of a linear layer, W = K rounded up to whole groups, G groups, B columns
that are rounded before the next update of the rest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
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

DAMPING = 0.01
"""Share of the mean diagonal that is added to it, as in the paper."""
COLUMNS = 128
"""Columns after which the errors of all of them are taken out of the rest at once."""
RANGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of a group's range that are tried: its largest weights may cost less than coarser steps for all."""


def gptq_codes(weight_NK: Tensor, hessian_KK: Tensor) -> GroupCodes:
    """Codes for fp32 weights.

    Args:
        weight_NK: of the layer.
        hessian_KK: X^T X of the inputs X [T, K] that the layer read, fp32.
    """
    weight_NW = padded(weight_NK)
    hessian_WW = _damped(F.pad(hessian_KK, (0, weight_NW.shape[1] - len(hessian_KK)) * 2))
    scale_NG, zero_NG = _ranges(weight_NW, hessian_WW.diagonal())
    order_W = hessian_WW.diagonal().argsort(descending=True)
    group_W = order_W // GROUP
    remaining_NW = weight_NW[:, order_W].clone()
    inverse_WW = _upper_inverse(hessian_WW[order_W][:, order_W])
    q_NW = torch.empty_like(weight_NW, dtype=torch.uint8)
    for first in range(0, len(order_W), COLUMNS):
        block = slice(first, first + COLUMNS)
        error = _round_columns(remaining_NW, inverse_WW, block, group_W, scale_NG, zero_NG, q_NW)
        remaining_NW[:, block.stop :] -= error @ inverse_WW[block, block.stop :]
    codes_NW = torch.empty_like(q_NW)
    codes_NW[:, order_W] = q_NW
    return GroupCodes(codes_NW, scale_NG, zero_NG)


def output_error(weight_NK: Tensor, codes: GroupCodes, hessian_KK: Tensor) -> float:
    """What GPTQ minimizes: the squared change of all outputs over the inputs behind `hessian_KK`."""
    change_NK = (dequantize_codes(codes)[:, : weight_NK.shape[1]] - weight_NK).double()
    return float((change_NK @ hessian_KK.double() * change_NK).sum())


def _round_columns(
    remaining_NW: Tensor,
    inverse_WW: Tensor,
    block: slice,
    group_W: Tensor,
    scale_NG: Tensor,
    zero_NG: Tensor,
    q_NW: Tensor,
) -> Tensor:
    """Round the columns of `block` in their order, write their codes into q_NW, and return their scaled errors."""
    last = min(block.stop, remaining_NW.shape[1])
    scale_NB, zero_NB = (values_NG.float()[:, group_W[block]] for values_NG in (scale_NG, zero_NG))
    errors = torch.empty_like(remaining_NW[:, block])
    for place, column in enumerate(range(block.start, last)):
        weight_N, scale_N, zero_N = remaining_NW[:, column], scale_NB[:, place], zero_NB[:, place]
        q_N = torch.where(scale_N == 0, 0.0, weight_N / scale_N.where(scale_N != 0, 1.0) + zero_N)
        q_N = q_N.round_().clamp_(0, LARGEST_INT4)
        q_NW[:, column] = q_N.to(torch.uint8)
        error_N = (weight_N - (q_N - zero_N) * scale_N) / inverse_WW[column, column]
        errors[:, place] = error_N
        remaining_NW[:, column + 1 : last] -= torch.outer(error_N, inverse_WW[column, column + 1 : last])
    return errors


def _ranges(weight_NW: Tensor, importance_W: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero of each group, [N, G]: of `RANGES` that with the least error, inputs weighted by their size."""
    best_scale, best_zero = group_ranges(weight_NW)
    least_NG = torch.full(best_scale.shape, torch.inf, device=weight_NW.device)
    for share in RANGES:
        scale_NG, zero_NG = group_ranges(weight_NW * share)
        codes = GroupCodes(nearest_codes(weight_NW, scale_NG, zero_NG), scale_NG, zero_NG)
        error_NW = (dequantize_codes(codes) - weight_NW).square_() * importance_W
        error_NG = error_NW.unflatten(1, (-1, GROUP)).sum(-1)
        better_NG = error_NG < least_NG
        least_NG = torch.where(better_NG, error_NG, least_NG)
        best_scale = torch.where(better_NG, scale_NG, best_scale)
        best_zero = torch.where(better_NG, zero_NG, best_zero)
    return best_scale, best_zero


def _damped(hessian_WW: Tensor) -> Tensor:
    """With a diagonal that can be inverted. Inputs that were always 0 in the calibration (a squared ReLU has such) say
    nothing of their weights, which are then rounded as they are."""
    hessian_WW = hessian_WW.clone()
    diagonal_W = hessian_WW.diagonal()
    mean = diagonal_W[diagonal_W > 0].mean() if bool((diagonal_W > 0).any()) else hessian_WW.new_ones(())
    diagonal_W[diagonal_W == 0] = mean * DAMPING
    diagonal_W += mean * DAMPING
    return hessian_WW


def _upper_inverse(hessian_WW: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse, found in fp64."""
    factor_WW = torch.linalg.cholesky(hessian_WW.double())
    inverse_WW = torch.cholesky_inverse(factor_WW)
    return torch.linalg.cholesky(inverse_WW, upper=True).float()
