"""LLM.int8's layer on a CPU: bitsandbytes' weights and arithmetic, in a third of its passes over memory.

Shapes: T tokens, N outputs, K inputs, C of them with outliers.
"""

from __future__ import annotations

from typing import cast

import torch
from bitsandbytes.nn.modules import Linear8bitLt
from torch import Tensor

from rwkv_sweep.models.quantization.native import int_mm_is_exact
from rwkv_sweep.ops.numba.int8 import dequantized, quantize_llm_int8

LARGEST = 127
"""What the largest size in a row of either factor becomes."""
BOTH_RANGES = 1 / LARGEST**2


class CpuLinear8bit(Linear8bitLt):
    """The library's own layer, which it still is by `Linear8bitLt.forward`, with another forward.

    The library's takes a pass over all inputs for each step (sizes, maxima, scaling, rounding, outliers, scaling back)
    and multiplies outliers in the dtype of the input, which is slow in fp16 on a CPU: here they are multiplied in fp32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] of any float dtype to [..., out] in fp32."""
        x_TK = x.reshape(-1, self.in_features).float()
        q_TK, amax_T, columns = quantize_llm_int8(x_TK, self.state.threshold)
        weight_NK, amax_N = cast(Tensor, self.state.CB), cast(Tensor, self.state.SCB)
        q_TK.index_fill_(1, columns, 0)
        out_TN = dequantized(_int_product(q_TK, weight_NK), amax_T, amax_N, BOTH_RANGES)
        if len(columns):
            outliers_NC = weight_NK[:, columns].float().mul_(amax_N[:, None] / LARGEST)
            out_TN.addmm_(x_TK[:, columns], outliers_NC.t())
        return out_TN.view(*x.shape[:-1], self.out_features)


def _int_product(q_TK: Tensor, weight_NK: Tensor) -> Tensor:
    """32-bit integers [T, N]."""
    if torch.backends.cpu.get_cpu_capability() == "AVX512" and int_mm_is_exact():
        return torch._int_mm(q_TK, weight_NK.t())
    # Elsewhere PyTorch's product of integers is slower than one of fp32 numbers, which the library takes then.
    products: Tensor = torch.ops.bitsandbytes.int8_linear_matmul(q_TK, weight_NK)
    return products
