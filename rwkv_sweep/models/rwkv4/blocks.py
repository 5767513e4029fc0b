"""The blocks of an RWKV-4 in plain PyTorch: the reference of every fast path.

Precision: matrix products run in the dtype of their weights; the residual stream, the norms and the WKV operator run in
fp32, as in the blocks of RWKV-6, whose channel mix is the same.

Shapes: T packed tokens, D hidden size, A width of keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import GatedChannelMix
from rwkv_sweep.models.common.layer_handover import OnValues
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv4 import wkv4_scan


class TimeMix(nn.Module):
    """The attention-like half of a block: token shift, a decaying average of values for each channel, receptance.

    `time_maa_*` are shares of the token before, as in RWKV-6; files of RWKV-4 hold those of the current token.
    """

    time_maa_k: nn.Parameter
    time_maa_v: nn.Parameter
    time_maa_r: nn.Parameter

    def __init__(self, config: Rwkv4Config) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.attention_hidden_size
        # Key, value and receptance in one piece, where a GPU's forward has laid them so.
        self.stack_3ED: Tensor | None = None
        self.stack_int8: tuple[Tensor, Tensor] | None = None
        self.matmul_dtype = torch.float32
        for name in ("k", "v", "r"):
            self.register_parameter(f"time_maa_{name}", nn.Parameter(torch.empty(1, 1, hidden)))
        # The decay is exp(-exp(time_decay)), the weight of the current token exp(time_first + key).
        self.time_decay = nn.Parameter(torch.empty(inner))
        self.time_first = nn.Parameter(torch.empty(inner))
        self.receptance = nn.Linear(hidden, inner, bias=False)
        self.key = nn.Linear(hidden, inner, bias=False)
        self.value = nn.Linear(hidden, inner, bias=False)
        self.output = nn.Linear(inner, hidden, bias=False)

    def forward(self, x_TD: Tensor, packed: Packed, on_values: OnValues | None = None) -> Tensor:
        """x [T, D] (after ln1) to what the block adds to the stream, [T, D], fp32.

        on_values, where given, receives the values [T, A].
        """
        dtype = self.matmul_dtype
        delta_TD = packed.shift(x_TD) - x_TD
        xk, xv, xr = (
            torch.addcmul(x_TD, delta_TD, maa.flatten()).to(dtype)
            for maa in (self.time_maa_k, self.time_maa_v, self.time_maa_r)
        )
        k_TA, v_TA = self.key(xk).float(), self.value(xv).float()
        if on_values is not None:
            on_values(v_TA)
        y_TA = wkv4_scan(k_TA, v_TA, -torch.exp(self.time_decay), self.time_first, packed)
        return self.output((torch.sigmoid(self.receptance(xr).float()) * y_TA).to(dtype)).float()


class Block(nn.Module):
    """One residual block; block 0 also holds the norm of the embedding."""

    def __init__(self, config: Rwkv4Config, index: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layer_norm_epsilon
        self.pre_ln = nn.LayerNorm(hidden, eps) if index == 0 else None
        self.ln1 = nn.LayerNorm(hidden, eps)
        self.ln2 = nn.LayerNorm(hidden, eps)
        self.attention = TimeMix(config)
        self.feed_forward = GatedChannelMix(hidden, config.intermediate_size)

    def forward(self, h_TD: Tensor, packed: Packed) -> Tensor:
        """The residual stream [T, D] before the block to the one after it."""
        h_TD = h_TD + self.attention(self.ln1(h_TD), packed)
        return h_TD + self.feed_forward(self.ln2(h_TD), packed)
