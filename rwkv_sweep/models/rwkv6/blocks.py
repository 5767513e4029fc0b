"""The blocks of an RWKV-6 in plain PyTorch: the reference of every fast path, what trains, and what runs on a CPU.

Precision: matrix products run in the dtype of their weights (for one exception see `matmul`); the residual stream,
the norms, the decays and the WKV operator run in fp32. So fp16 stays finite on trained checkpoints without halving the
stream every few blocks, which would be harmless for one layer's cosine but wrong for means over layers.

Shapes: T packed tokens, B sentences, D hidden size, F inner size of the channel mix, R rank of the low-rank products, H
heads of K key and V value channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import GatedChannelMix, matmul
from rwkv_sweep.models.common.layer_handover import OnValues
from rwkv_sweep.models.rwkv6.configuration import Rwkv6Config
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv6 import wkv6_chunked


class TimeMix(nn.Module):
    """The attention-like half of a block: token shift, data-dependent mixes and decays, WKV, gate."""

    time_maa_x: nn.Parameter
    time_maa_w: nn.Parameter
    time_maa_k: nn.Parameter
    time_maa_v: nn.Parameter
    time_maa_r: nn.Parameter
    time_maa_g: nn.Parameter

    def __init__(self, config: Rwkv6Config) -> None:
        super().__init__()
        hidden, inner, heads = config.hidden_size, config.attention_hidden_size, config.num_heads
        mix_rank, decay_rank = config.time_mix_extra_dim, config.time_decay_extra_dim
        self.num_heads = heads
        # None lets the decays choose; a fixed length keeps a compiled training step free of data-dependent branches.
        self.chunk: int | None = None
        # The weights of key, value, receptance and gate in one piece, where they lie so: see `fused`.
        self.stack_4ED: Tensor | None = None
        # The same of LLM.int8's weights, with the maxima of their rows.
        self.stack_int8: tuple[Tensor, Tensor] | None = None
        # The same of weights in few bits.
        self.few_4: Any = None
        # What `fused` finds out about the mixes where the four projections take fp8.
        self.bounds_4: Tensor | None = None
        for name in ("x", "w", "k", "v", "r", "g"):
            self.register_parameter(f"time_maa_{name}", nn.Parameter(torch.empty(1, 1, hidden)))
        self.time_maa_w1 = nn.Parameter(torch.empty(hidden, mix_rank * 5))
        self.time_maa_w2 = nn.Parameter(torch.empty(5, mix_rank, hidden))
        self.time_decay = nn.Parameter(torch.empty(1, 1, inner))
        self.time_decay_w1 = nn.Parameter(torch.empty(hidden, decay_rank))
        self.time_decay_w2 = nn.Parameter(torch.empty(decay_rank, inner))
        self.time_faaaa = nn.Parameter(torch.empty(heads, config.head_size))
        self.receptance = nn.Linear(hidden, inner, bias=False)
        self.key = nn.Linear(hidden, inner, bias=False)
        self.value = nn.Linear(hidden, inner, bias=False)
        self.gate = nn.Linear(hidden, inner, bias=False)
        self.output = nn.Linear(inner, hidden, bias=False)
        self.ln_x = nn.GroupNorm(heads, inner, eps=1e-5 * config.head_size_divisor**2)

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
        delta_TD = packed.shift(x_TD) - x_TD
        xw, xk, xv, xr, xg = self._mixed(x_TD, delta_TD)
        heads = (self.num_heads, -1)
        r_THK = self.receptance(xr).float().unflatten(-1, heads)
        k_THK = self.key(xk).float().unflatten(-1, heads)
        v_THV = self.value(xv).float().unflatten(-1, heads)
        if on_values is not None:
            on_values(v_THV.flatten(1))
        gate_TD = F.silu(self.gate(xg).float())
        low_TR = torch.tanh(matmul(xw, self.time_decay_w1))
        decay_TD = self.time_decay.float().flatten() + matmul(low_TR, self.time_decay_w2).float()
        log_w_THK = -torch.exp(decay_TD).unflatten(-1, heads)
        y_THV, wkv_BHKV = wkv6_chunked(r_THK, k_THK, v_THV, log_w_THK, self.time_faaaa.float(), packed, self.chunk)
        if on_wkv is not None:
            on_wkv(wkv_BHKV)
        y_TD = F.group_norm(
            y_THV.flatten(1), self.num_heads, self.ln_x.weight.float(), self.ln_x.bias.float(), self.ln_x.eps
        )
        return self.output((y_TD * gate_TD).to(self.time_decay_w1.dtype)).float()

    def _mixed(self, x_TD: Tensor, delta_TD: Tensor) -> tuple[Tensor, ...]:
        """The five inputs (w, k, v, r, g), each a data-dependent mix of this token and the one before."""
        dtype = self.time_maa_w1.dtype
        base_TD = (x_TD + delta_TD * self.time_maa_x.flatten()).to(dtype)
        low_5TR = torch.tanh(matmul(base_TD, self.time_maa_w1)).unflatten(-1, (5, -1)).transpose(0, 1)
        moved_5TD = matmul(low_5TR, self.time_maa_w2)
        fixed = (self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g)
        return tuple(
            torch.addcmul(x_TD, delta_TD, maa.flatten() + moved).to(dtype)
            for maa, moved in zip(fixed, moved_5TD, strict=True)
        )


class Block(nn.Module):
    def __init__(self, config: Rwkv6Config, index: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layer_norm_epsilon
        self.pre_ln = nn.LayerNorm(hidden, eps) if index == 0 else None
        self.ln1 = nn.LayerNorm(hidden, eps)
        self.ln2 = nn.LayerNorm(hidden, eps)
        self.attention = TimeMix(config)
        self.feed_forward = GatedChannelMix(hidden, config.intermediate_size)
        # What `cpu_prepared` makes of the weights.
        self.prepared: Any = None

    def forward(self, h_TD: Tensor, packed: Packed, on_state: Callable[[Tensor, Tensor], None] | None = None) -> Tensor:
        """The residual stream [T, D] before the block to the one after it; on_state as `OnState`, without the index."""
        if on_state is not None:
            return self._forward_with_state(h_TD, packed, on_state)
        h_TD = h_TD + self.attention(self.ln1(h_TD), packed)
        return h_TD + self.feed_forward(self.ln2(h_TD), packed)

    def _forward_with_state(self, h_TD: Tensor, packed: Packed, on_state: Callable[[Tensor, Tensor], None]) -> Tensor:
        wkv: list[Tensor] = []
        x_TD = self.ln1(h_TD)
        time_BD = x_TD.index_select(0, packed.last_B)
        h_TD = h_TD + self.attention(x_TD, packed, wkv.append)
        x_TD = self.ln2(h_TD)
        on_state(wkv[0], torch.stack((time_BD, x_TD.index_select(0, packed.last_B)), 1))
        return h_TD + self.feed_forward(x_TD, packed)
