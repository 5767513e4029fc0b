"""Weights alone in few bits, in plain PyTorch: 4-bit codes in groups along the input, and int8 rows.

int4: w = (q - zero) * scale, with q from 0 to 15, and scale and zero in fp16, one of each for 64 weights of a row. Two
codes share a byte, the even column in its low four bits. Rows that are no multiple of 64 are padded with zeros.
int8: w = q * scale, with q from -127 to 127 and one fp16 scale for each row.

Shapes: N outputs, K inputs of a linear layer, W = K rounded up to whole groups, G = W / 64 groups of C
weights, B = W / 2 bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 64
"""Weights of a row that share scale and zero in int4."""
LARGEST_INT4, LARGEST_INT8 = 15, 127


class GroupCodes(NamedTuple):
    """int4 weights before they are packed.

    Attributes:
        q_NW: codes from 0 to 15, uint8.
        scale_NG, zero_NG: fp16.
    """

    q_NW: Tensor
    scale_NG: Tensor
    zero_NG: Tensor


def padded(weight_NK: Tensor) -> Tensor:
    """[N, W]: rows of whole groups, padded with zeros."""
    return F.pad(weight_NK, (0, -weight_NK.shape[1] % GROUP))


def group_ranges(weight_NW: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero [N, G], fp16, of the smallest and largest weight of each group (0 among them), of fp32 weights.

    With 0 in the range, zero is a number from 0 to 15 whatever the weights are.
    """
    weight_NGC = weight_NW.unflatten(1, (-1, GROUP))
    low_NG, high_NG = weight_NGC.amin(-1).clamp_(max=0), weight_NGC.amax(-1).clamp_(min=0)
    # Zero comes from the scale as it is stored, so that the smallest weight is met exactly.
    scale_NG = ((high_NG - low_NG) / LARGEST_INT4).half()
    scale = scale_NG.float()
    zero_NG = torch.where(scale == 0, 0.0, -low_NG / scale.clamp_min(torch.finfo(torch.float32).tiny))
    return scale_NG, zero_NG.clamp_(0, LARGEST_INT4).half()


def nearest_codes(weight_NW: Tensor, scale_NG: Tensor, zero_NG: Tensor) -> Tensor:
    """The code nearest to each fp32 weight, uint8 [N, W]."""
    scale, zero = (part_NG.float().repeat_interleave(GROUP, 1) for part_NG in (scale_NG, zero_NG))
    q_NW = torch.where(scale == 0, 0.0, weight_NW / scale.where(scale != 0, 1.0) + zero)
    return q_NW.round_().clamp_(0, LARGEST_INT4).to(torch.uint8)


def quantize_int4(weight_NK: Tensor) -> GroupCodes:
    """Plain rounding of fp32 weights."""
    weight_NW = padded(weight_NK)
    scale_NG, zero_NG = group_ranges(weight_NW)
    return GroupCodes(nearest_codes(weight_NW, scale_NG, zero_NG), scale_NG, zero_NG)


def pack(q_NW: Tensor) -> Tensor:
    """Codes to bytes, uint8 [N, B]."""
    return q_NW[:, 0::2] | (q_NW[:, 1::2] << 4)


def unpack(q_NB: Tensor) -> Tensor:
    """Bytes to codes, uint8 [N, W]."""
    return torch.stack((q_NB & 15, q_NB >> 4), -1).flatten(1)


def dequantize_codes(codes: GroupCodes) -> Tensor:
    """The weights [N, W] that codes stand for, fp32."""
    q_NGC = codes.q_NW.unflatten(1, (-1, GROUP)).float()
    return ((q_NGC - codes.zero_NG.float()[..., None]) * codes.scale_NG.float()[..., None]).flatten(1)


def dequantize_int4(q_NB: Tensor, scale_NG: Tensor, zero_NG: Tensor, width: int) -> Tensor:
    """The weights [N, width] that packed codes stand for, fp32."""
    return dequantize_codes(GroupCodes(unpack(q_NB), scale_NG, zero_NG))[:, :width]


def quantize_int8_weight(weight_NK: Tensor) -> tuple[Tensor, Tensor]:
    """fp32 weights to int8 rows [N, K] and fp16 scales [N]."""
    scale_N = (weight_NK.abs().amax(1) / LARGEST_INT8).half()
    scale_N1 = scale_N.float()[:, None]
    q_NK = torch.where(scale_N1 == 0, 0.0, weight_NK / scale_N1.where(scale_N1 != 0, 1.0))
    return q_NK.round_().clamp_(-LARGEST_INT8, LARGEST_INT8).to(torch.int8), scale_N


def dequantize_int8_weight(q_NK: Tensor, scale_N: Tensor) -> Tensor:
    """The weights [N, K] that int8 rows stand for, fp32."""
    return q_NK.float() * scale_N.float()[:, None]
