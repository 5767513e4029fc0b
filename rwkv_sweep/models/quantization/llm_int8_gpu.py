"""LLM.int8's layer on a GPU: bitsandbytes' weights and rule, in kernels that never make the host wait.

Shapes: G layers of one shape, T tokens, N outputs, K inputs; F inner size of a channel mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from bitsandbytes.nn.modules import Linear8bitLt
from torch import Tensor, nn


class GpuLinear8bit(Linear8bitLt):
    """The library's own layer, which it still is by `Linear8bitLt.forward`, with another forward.

    The library's reads on the host which columns have outliers, so that a forward waits for the device at each layer,
    and no CUDA graph can hold it.
    """

    stays_on_device = True

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] of any float dtype to [..., out] in the same dtype."""
        return self._product(x, None)

    def of_squares(self, k_TF: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
        """The layer of (relu(k) * factor) ** 2, [T, out] in `dtype`."""
        return self._product(k_TF, factor, dtype)

    @staticmethod
    def stacked(linears: Sequence[nn.Module]) -> tuple[Tensor, Tensor] | None:
        """Weights [G, N, K] and their rows' maxima [G, N] of layers of one shape, which then share that memory; None
        where they are not all `GpuLinear8bit`."""
        if any(not isinstance(linear, GpuLinear8bit) for linear in linears):
            return None
        layers = cast(Sequence[GpuLinear8bit], linears)
        weight_GNK = torch.stack([cast(Tensor, layer.state.CB) for layer in layers])
        amax_GN = torch.stack([cast(Tensor, layer.state.SCB) for layer in layers])
        for layer, weight_NK, amax_N in zip(layers, weight_GNK, amax_GN, strict=True):
            layer.weight.data = weight_NK
            layer.state.CB, layer.state.SCB = weight_NK, amax_N
        return weight_GNK, amax_GN

    def _product(self, x: Tensor, square_factor: float | None, dtype: torch.dtype | None = None) -> Tensor:
        from rwkv_sweep.ops.triton.quantized.llm_int8 import llm_int8_matmul

        x_1TK = x.reshape(1, -1, self.in_features)
        weight_NK, amax_N = cast(Tensor, self.state.CB), cast(Tensor, self.state.SCB)
        out_1TN = llm_int8_matmul(x_1TK, weight_NK[None], amax_N[None], dtype or x.dtype, square_factor)
        return out_1TN.view(*x.shape[:-1], self.out_features)
