"""The channel mix that RWKV-4, 5 and 6 have in common, and the products of plain blocks.

Shapes: T packed tokens, D hidden size, F inner size of the channel mix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed

FP16_SQUARE_SCALE = 8.0
"""relu(k) is divided by this before it is squared in fp16 (whose largest number is 65,504), a power of two so exact."""


class GatedChannelMix(nn.Module):
    """The feed-forward half of a block of RWKV-4, 5 and 6: squared ReLU behind a token shift, gated by a receptance."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.time_maa_k = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.time_maa_r = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.key = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.receptance = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(intermediate_size, hidden_size, bias=False)
        self.matmul_dtype = torch.float32
        # Weights of key and value as a GPU reads them for few tokens, where it does.
        self.few_key: Any = None
        self.few_value: Any = None

    def forward(self, x_TD: Tensor, packed: Packed) -> Tensor:
        """x [T, D] (after ln2) to what the block adds to the stream, [T, D], fp32."""
        dtype = self.matmul_dtype
        delta_TD = packed.shift(x_TD) - x_TD
        xk_TD = torch.addcmul(x_TD, delta_TD, self.time_maa_k.flatten()).to(dtype)
        xr_TD = torch.addcmul(x_TD, delta_TD, self.time_maa_r.flatten()).to(dtype)
        scale = FP16_SQUARE_SCALE if dtype == torch.float16 else 1.0
        k_TF = torch.relu(self.key(xk_TD))
        value_TD = self.value(((k_TF / scale) ** 2).to(dtype)).float() * scale**2
        return torch.sigmoid(self.receptance(xr_TD).float()) * value_TD


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight with x rounded to the dtype of the weight; batched if both have a leading dimension.

    In fp16 on the CPU the rounded factors are multiplied in fp32 and the result stays fp32: few CPUs have fp16
    arithmetic, and without it PyTorch's fp16 product is several times slower than the fp32 one.
    """
    x = x.to(weight.dtype)
    if weight.dtype == torch.float16 and weight.device.type == "cpu":
        return torch.matmul(x.float(), weight.float())
    return torch.matmul(x, weight)
