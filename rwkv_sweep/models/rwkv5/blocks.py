"""The blocks of an RWKV-5 in plain PyTorch: the reference of every fast path.

Precision: matrix products run in the dtype of their weights; the residual stream, the norms and the WKV operator run in
fp32, as in the blocks of RWKV-6, whose channel mix and operator are the same.

Shapes: T packed tokens, B sentences, D hidden size, A width of keys and values, H heads of K channels (V = K).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import GatedChannelMix
from rwkv_sweep.models.common.layer_handover import OnValues
from rwkv_sweep.models.rwkv5.configuration import Rwkv5Config
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv6 import wkv6_chunked


class TimeMix(nn.Module):
    """The attention-like half of a block: token shift, WKV with a fixed decay for each channel, gate.

    `time_maa_*` are shares of the token before, as in RWKV-6; files of RWKV-5 hold those of the current token.
    """

    time_maa_k: nn.Parameter
    time_maa_v: nn.Parameter
    time_maa_r: nn.Parameter
    time_maa_g: nn.Parameter

    def __init__(self, config: Rwkv5Config) -> None:
        super().__init__()
        hidden, inner, heads = config.hidden_size, config.attention_hidden_size, config.num_heads
        self.num_heads = heads
        # Key, value, receptance and gate in one piece, where a GPU's forward has laid them so.
        self.stack_4ED: Tensor | None = None
        self.stack_int8: tuple[Tensor, Tensor] | None = None
        self.matmul_dtype = torch.float32
        for name in ("k", "v", "r", "g"):
            self.register_parameter(f"time_maa_{name}", nn.Parameter(torch.empty(1, 1, hidden)))
        # The decay is exp(-exp(time_decay)).
        self.time_decay = nn.Parameter(torch.empty(1, 1, inner))
        self.time_faaaa = nn.Parameter(torch.empty(heads, config.head_size))
        self.receptance = nn.Linear(hidden, inner, bias=False)
        self.key = nn.Linear(hidden, inner, bias=False)
        self.value = nn.Linear(hidden, inner, bias=False)
        self.gate = nn.Linear(hidden, inner, bias=False)
        self.output = nn.Linear(inner, hidden, bias=False)
        self.ln_x = nn.GroupNorm(heads, inner, eps=config.head_norm_epsilon)

    def forward(
        self,
        x_TD: Tensor,
        packed: Packed,
        on_wkv: Callable[[Tensor], None] | None = None,
        on_values: OnValues | None = None,
    ) -> Tensor:
        """x [T, D] (after ln1) to what the block adds to the stream, [T, D], fp32.

        on_wkv, where given, receives the states after each sentence's last token [B, H, K, V]; on_values the values
        of all heads, [T, H * V].
        """
        dtype, heads = self.matmul_dtype, (self.num_heads, -1)
        delta_TD = packed.shift(x_TD) - x_TD
        xk, xv, xr, xg = (
            torch.addcmul(x_TD, delta_TD, maa.flatten()).to(dtype)
            for maa in (self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g)
        )
        r_THK = self.receptance(xr).float().unflatten(-1, heads)
        k_THK = self.key(xk).float().unflatten(-1, heads)
        v_THV = self.value(xv).float().unflatten(-1, heads)
        if on_values is not None:
            on_values(v_THV.flatten(1))
        gate_TA = F.silu(self.gate(xg).float())
        log_w_HK = -torch.exp(self.time_decay.flatten()).unflatten(-1, heads)
        y_THV, wkv_BHKV = wkv6_chunked(r_THK, k_THK, v_THV, log_w_HK.expand_as(k_THK), self.time_faaaa, packed)
        if on_wkv is not None:
            on_wkv(wkv_BHKV)
        y_TA = F.group_norm(y_THV.flatten(1), self.num_heads, self.ln_x.weight, self.ln_x.bias, self.ln_x.eps)
        return self.output((y_TA * gate_TA).to(dtype)).float()


class Block(nn.Module):
    """One residual block; block 0 also holds the norm of the embedding."""

    def __init__(self, config: Rwkv5Config, index: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layer_norm_epsilon
        self.pre_ln = nn.LayerNorm(hidden, eps) if index == 0 else None
        self.ln1 = nn.LayerNorm(hidden, eps)
        self.ln2 = nn.LayerNorm(hidden, eps)
        self.attention = TimeMix(config)
        self.feed_forward = GatedChannelMix(hidden, config.intermediate_size)

    def forward(self, h_TD: Tensor, packed: Packed, on_state: Callable[[Tensor, Tensor], None] | None = None) -> Tensor:
        """The residual stream [T, D] before the block to the one after it; on_state as `OnState`, without the index."""
        wkv: list[Tensor] = []
        x_TD = self.ln1(h_TD)
        h_TD = h_TD + self.attention(x_TD, packed, wkv.append if on_state else None)
        middle_TD = self.ln2(h_TD)
        if on_state is not None:
            last_B2D = [norm_TD.index_select(0, packed.last_B) for norm_TD in (x_TD, middle_TD)]
            on_state(wkv[0], torch.stack(last_B2D, 1))
        return h_TD + self.feed_forward(middle_TD, packed)
