"""Layers with weights alone in few bits on a GPU: few tokens read the codes, many tokens the dequantized weights.

The codes are laid out as `ops.triton.quantized.few_tokens` reads them, once, when a layer is made, and take the memory
that they took before.

Shapes: G layers of one shape, T tokens, N outputs, K inputs of a linear layer, W words of 16 bits.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.quantization.bitsandbytes_layers import FourBitLinear
from rwkv_sweep.models.quantization.dtypes import DTYPES
from rwkv_sweep.models.quantization.native import RowwiseLinear
from rwkv_sweep.models.quantization.weight_only import WeightOnlyLinear
from rwkv_sweep.ops.common.availability import triton_missing

if TYPE_CHECKING:
    from rwkv_sweep.ops.triton.quantized.few_tokens import FewTokensWeight

log = logging.getLogger(__name__)

MULTIPLE = 128
"""The inner size of a layer must be a multiple of this."""
LEAST_CAPABILITY = (8, 0)
PACKED_KERNEL = "up to 128 tokens by Triton (inner size a multiple of 128), else dequantized and multiplied by cuBLAS,"
"""What multiplies, in words."""


class PackedLinear(nn.Module):
    """A linear layer whose codes are packed for the kernels.

    Attributes:
        kind: how the weights are stored: int4, int8, nf4 or fp4.
        few: the weights, G = 1.
    """

    few: FewTokensWeight
    bias: Tensor | None
    words: Tensor
    scale: Tensor

    def __init__(self, linear: WeightOnlyLinear | FourBitLinear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.base = linear.in_features, linear.out_features, linear.base
        self.register_buffer("bias", getattr(linear, "bias", None))
        if isinstance(linear, FourBitLinear):
            self.kind, weight = str(linear.quant_state.quant_type), _of_four_bits(linear)
        else:
            self.kind, weight = f"int{linear.bits}", _of_weight_only(linear)
        self.take(weight)

    def take(self, weight: FewTokensWeight) -> None:
        """Keep these weights, G = 1."""
        assert weight.scale is not None
        self.few = weight
        self.register_buffer("words", weight.weight)
        self.register_buffer("scale", weight.scale)
        second, table, _ = weight.nested or (None, None, 0.0)
        self.register_buffer("second", second)
        self.register_buffer("table", table)

    def dequantized(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weights [N, K] that the codes stand for, in `dtype`, by default that of the base."""
        from rwkv_sweep.ops.triton.quantized.few_tokens import dequantize

        return dequantize(self.few, self.base)[0].to(dtype or self.base)

    def forward(self, input: Tensor) -> Tensor:
        """[..., K] of any dtype to [..., N] in the base dtype."""
        from rwkv_sweep.ops.triton.quantized.few_tokens import MOST_TOKENS, few_tokens_matmul

        x_1TK = input.to(self.base).reshape(1, -1, self.in_features)
        if x_1TK.shape[1] > MOST_TOKENS:
            return F.linear(input.to(self.base), self.dequantized(), self.bias)
        out = few_tokens_matmul(x_1TK, self.few).view(*input.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias


def runs_packed(base: str, device: torch.device) -> bool:
    """Whether layers whose inner size is a multiple of `MULTIPLE` are packed on this device."""
    return device.type == "cuda" and _not_packed(0, DTYPES[base], device) is None


def packed(linear: WeightOnlyLinear | FourBitLinear) -> nn.Module:
    """The layer as it runs on its device: packed for the kernels where they can run, else as it is."""
    codes = cast(Tensor, linear.packed) if isinstance(linear, FourBitLinear) else linear.qweight
    if not codes.is_cuda:
        return linear
    if (reason := _not_packed(linear.in_features, linear.base, codes.device)) is not None:
        _log_once(reason)
        return linear
    return PackedLinear(linear).eval()


def _not_packed(inner: int, base: torch.dtype, device: torch.device) -> str | None:
    """Why the kernels cannot run such a layer, in a few words; None where they can."""
    if triton_missing() is not None:
        return "Triton cannot be imported"
    if torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return f"{device} has a compute capability below {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]}"
    if base == torch.float32:
        return "precision.base is float32"
    return f"{inner} inputs are not a multiple of {MULTIPLE}" if inner % MULTIPLE else None


@functools.cache
def _log_once(reason: str) -> None:
    log.warning("weights in few bits are dequantized for every batch, without a kernel of our own: %s", reason)


def stacked_weights(linears: Sequence[nn.Module]) -> FewTokensWeight | None:
    """The weights of layers of one shape, which then share that memory; None where they are not all packed alike."""
    if all(isinstance(linear, RowwiseLinear) for linear in linears):
        return _stacked_rows(cast(Sequence[RowwiseLinear], linears))
    if any(not isinstance(linear, PackedLinear) for linear in linears):
        return None
    from rwkv_sweep.ops.triton.quantized.few_tokens import FewTokensWeight

    layers = cast(Sequence[PackedLinear], linears)
    first = layers[0].few
    if any(layer.few.nested or layer.kind != layers[0].kind or layer.bias is not None for layer in layers):
        return None
    words_GNW = torch.cat([layer.words for layer in layers])
    scale = torch.cat([layer.scale for layer in layers])
    for index, layer in enumerate(layers):
        part = slice(index, index + 1)
        layer.take(FewTokensWeight(words_GNW[part], scale[part], first.numbers))
    return FewTokensWeight(words_GNW, scale, first.numbers)


def _stacked_rows(linears: Sequence[RowwiseLinear]) -> FewTokensWeight | None:
    """As `stacked_weights`, of layers whose weights and inputs are 8-bit rows."""
    first = linears[0].weight_NK
    alike = all(linear.weight_NK.dtype == first.dtype and linear.weight_NK.shape == first.shape for linear in linears)
    if not alike or not first.is_cuda or triton_missing() is not None:
        return None
    from rwkv_sweep.ops.triton.quantized.few_tokens import FewTokensWeight

    weight_GNK = torch.stack([linear.weight_NK.view(torch.int8) for linear in linears]).view(first.dtype)
    scale_GN = torch.stack([linear.scale_N for linear in linears])
    for linear, weight_NK, scale_N in zip(linears, weight_GNK, scale_GN, strict=True):
        linear.weight_NK, linear.scale_N = weight_NK, scale_N
    return FewTokensWeight(weight_GNK, scale_GN)


def few_tokens_weight(linear: nn.Module) -> FewTokensWeight | None:
    """The weights of a layer as the kernel of few tokens reads them; None where it cannot."""
    if isinstance(linear, PackedLinear):
        return linear.few if linear.bias is None else None
    if type(linear) is not nn.Linear or linear.bias is not None:
        return None
    return few_tokens_stack(linear.weight.data[None])


def few_tokens_stack(weight_GNK: Tensor) -> FewTokensWeight | None:
    """Plain weights as the kernel of few tokens reads them; None where it cannot."""
    if not weight_GNK.is_cuda or _not_packed(weight_GNK.shape[2], weight_GNK.dtype, weight_GNK.device) is not None:
        return None
    from rwkv_sweep.ops.triton.quantized.few_tokens import FewTokensWeight

    return FewTokensWeight(weight_GNK)


def _of_weight_only(linear: WeightOnlyLinear) -> FewTokensWeight:
    from rwkv_sweep.ops.triton.quantized.few_tokens import INTEGERS, FewTokensWeight, packed_codes, packed_int8, words

    if linear.zero is None:
        return FewTokensWeight(packed_int8(linear.qweight)[None], linear.scale[None])
    codes_NK = torch.stack((linear.qweight & 15, linear.qweight >> 4), -1).flatten(1)
    groups = words(linear.scale.t().contiguous(), linear.zero.t().contiguous(), linear.base)
    return FewTokensWeight(packed_codes(codes_NK)[None], groups[None], INTEGERS)


def _of_four_bits(linear: FourBitLinear) -> FewTokensWeight:
    """Codes as bitsandbytes keeps them: rows one after another, the even column in a byte's high bits."""
    from rwkv_sweep.ops.triton.quantized.few_tokens import FewTokensWeight, packed_codes

    state = linear.quant_state
    bytes_of_two = cast(Tensor, linear.packed).flatten()
    codes = torch.stack((bytes_of_two >> 4, bytes_of_two & 15), -1)
    words_NW = packed_codes(codes.view(linear.out_features, linear.in_features))
    numbers = tuple(state.code.tolist())
    absmax = state.absmax.view(linear.out_features, -1)
    if state.nested:
        nested = (state.state2.absmax, state.state2.code, float(state.offset))
        return FewTokensWeight(words_NW[None], absmax[None], numbers, nested)
    return FewTokensWeight(words_NW[None], absmax.t().contiguous()[None], numbers)
