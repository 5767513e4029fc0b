"""Linear layers with weights alone in few bits: `int4` in groups of 64 and `int8_weight` by row.

The formats are those of `ops.common.groupwise`; inputs and matmuls are those of the base dtype. For many
tokens the weights are dequantized once for the whole batch.

Shapes: N outputs, K inputs of a linear layer, W = K rounded up to whole groups, G groups, B = W / 2 bytes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.quantization.dtypes import check_fits
from rwkv_sweep.ops.common import onednn
from rwkv_sweep.ops.common.groupwise import (
    GROUP,
    GroupCodes,
    dequantize_int4,
    dequantize_int8_weight,
    pack,
    quantize_int4,
    quantize_int8_weight,
)

INT4, INT8 = "int4", "int8_weight"
WEIGHT_ONLY = (INT4, INT8)
"""Values of `precision.quantization` that this module has the layers of."""


STORED = {INT4: f"int4 in groups of {GROUP}, fp16 scales and zeros", INT8: "int8 rows, fp16 scales"}


class WeightOnlyLinear(nn.Module):
    """A linear layer whose weights are kept in 4 or 8 bits.

    Attributes:
        bits: 4 or 8.
        group: weights of a row that share a scale: 64 (4 bits), or the row (8 bits).
        qweight: 4 bits: uint8 [N, B], two codes a byte, the even column in the low four bits. 8 bits: int8 [N, K].
        scale: fp16, [N, G] in 4 bits, [N] in 8 bits.
        zero: fp16 [N, G] in 4 bits; None in 8 bits, which are symmetric.
        bias: [N] in the base dtype, or None.
    """

    qweight: Tensor
    scale: Tensor
    zero: Tensor | None
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, kind: str, base: torch.dtype, codes: GroupCodes | None = None) -> None:
        """
        Args:
            linear: on the device where the layer is to be; its weights may be of any float dtype.
            kind: one of `WEIGHT_ONLY`.
            base: dtype of inputs and matmuls.
            codes: for `int4`, where the weights were quantized by calibration; None rounds them.
        """
        super().__init__()
        self.in_features, self.out_features, self.base = linear.in_features, linear.out_features, base
        weight_NK = linear.weight.data.float()
        if kind == INT4:
            self.bits, self.group = 4, GROUP
            q_NW, scale, zero = quantize_int4(weight_NK) if codes is None else codes
            qweight: Tensor = pack(q_NW)
        else:
            self.bits, self.group = 8, linear.in_features
            qweight, scale = quantize_int8_weight(weight_NK)
            zero = None
        self.register_buffer("qweight", qweight)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.data.to(base))

    def dequantized(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weights [N, K] that the codes stand for, rounded to `dtype`; None takes the base dtype."""
        dtype = dtype or self.base
        compiled = self.qweight.device.type == "cpu" and dtype == torch.bfloat16
        if self.zero is not None:
            if compiled:
                from rwkv_sweep.ops.numba.weight_only import int4_to_bf16  # imports Numba, which GPUs do without

                return int4_to_bf16(self.qweight, self.scale, self.zero, self.in_features)
            return dequantize_int4(self.qweight, self.scale, self.zero, self.in_features).to(dtype)
        if compiled:
            from rwkv_sweep.ops.numba.weight_only import int8_to_bf16

            return int8_to_bf16(self.qweight, self.scale)
        return dequantize_int8_weight(self.qweight, self.scale).to(dtype)

    def forward(self, input: Tensor) -> Tensor:
        """[..., K] of any dtype to [..., N] in the base dtype (fp32 on a CPU where that is fp16)."""
        x = input.to(self.base)
        if x.device.type == "cpu" and self.base != torch.bfloat16:
            product = onednn.matmul_fp32(x.float(), self.dequantized().float())
            return product if self.bias is None else product + self.bias.float()
        return F.linear(x, self.dequantized(), self.bias)


def weight_only_linear(
    name: str, linear: nn.Linear, kind: str, base: torch.dtype, device: torch.device, codes: GroupCodes | None = None
) -> WeightOnlyLinear:
    """The layer on `device`, quantized from the weights as they are in the file.

    Args:
        name: of the layer.
        kind, base, codes: see `WeightOnlyLinear`.

    Raises:
        UserError: a weight is too large for the fp16 scales.
    """
    check_fits(name, linear.weight)
    there = nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
    there.weight = nn.Parameter(linear.weight.data.to(device, torch.float32), requires_grad=False)
    if linear.bias is not None:
        there.bias = nn.Parameter(linear.bias.data.to(device), requires_grad=False)
    return WeightOnlyLinear(there, kind, base, codes).eval()


def weight_only_kernel(kind: str, device: torch.device, base: str) -> str:
    """What multiplies, in words."""
    by = "Numba" if device.type == "cpu" and base == "bfloat16" else "PyTorch"
    dtype = "float32" if device.type == "cpu" and base == "float16" else base
    return f"{STORED[kind]}, dequantized by {by}, multiplied in {dtype}"
