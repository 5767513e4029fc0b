"""The blocks of an RWKV-7 in plain PyTorch: the reference of every fast path.

Precision: matrix products run in the dtype of their weights; the residual stream, the norms, the decays, the removal
keys and the WKV operator run in fp32, as in the blocks of RWKV-6.

Shapes: T packed tokens, B sentences, D hidden size, H heads of K channels (V = K), F width of the channel mix,
R rank of a low-rank product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import FP16_SQUARE_SCALE, matmul
from rwkv_sweep.models.common.layer_handover import OnValues
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv7 import wkv7_chunked

if TYPE_CHECKING:
    from rwkv_sweep.models.rwkv7.gpu_weights import GpuWeights

DECAY_SCALE = math.exp(-0.5)
"""A decay is exp(-DECAY_SCALE * sigmoid(z)), so at least 0.545."""

SHORTEST_KEY = 1e-12
"""A removal key is divided by its length, or by this where it is shorter."""


class TimeMix(nn.Module):
    """The attention-like half of a block: token shift, low-rank decay, learning rate, value residual and gate, WKV."""

    x_r: nn.Parameter
    x_w: nn.Parameter
    x_k: nn.Parameter
    x_v: nn.Parameter
    x_a: nn.Parameter
    x_g: nn.Parameter
    w0: nn.Parameter
    a0: nn.Parameter
    v0: nn.Parameter
    k_k: nn.Parameter
    k_a: nn.Parameter
    r_k: nn.Parameter
    w1: nn.Parameter
    w2: nn.Parameter
    a1: nn.Parameter
    a2: nn.Parameter
    v1: nn.Parameter
    v2: nn.Parameter
    g1: nn.Parameter
    g2: nn.Parameter

    def __init__(self, config: Rwkv7Config, index: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.num_heads, self.first = config.num_heads, index == 0
        # What the kernels of a GPU read beside the parameters, where `triton_forward.prepare_blocks` has laid it.
        self.gpu_weights: GpuWeights | None = None
        # All that has one number a channel is kept as [D], also the bonus r_k that files keep as [H, K].
        vectors = ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "k_k", "k_a", "r_k"]
        ranks = {"w": config.decay_rank, "a": config.rate_rank, "g": config.gate_rank}
        if not self.first:
            vectors.append("v0")
            ranks["v"] = config.value_rank
        for name in vectors:
            self.register_parameter(name, nn.Parameter(torch.empty(hidden)))
        for name, rank in ranks.items():
            self.register_parameter(f"{name}1", nn.Parameter(torch.empty(hidden, rank)))
            self.register_parameter(f"{name}2", nn.Parameter(torch.empty(rank, hidden)))
        self.receptance = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, hidden, bias=False)
        self.ln_x = nn.GroupNorm(config.num_heads, hidden, eps=config.head_norm_epsilon)

    def forward(
        self,
        x_TD: Tensor,
        packed: Packed,
        first_value_TD: Tensor | None,
        on_wkv: Callable[[Tensor], None] | None = None,
        on_values: OnValues | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x [T, D] (after ln1) to what the block adds to the stream, and block 0's value; both [T, D], fp32.

        Args:
            first_value_TD: block 0's value, which the value residual of later blocks reads; None in block 0.
            on_wkv: receives the states after each sentence's last token [B, H, K, V].
            on_values: receives the values [T, D], with the value residual.
        """
        dtype, heads = self.w1.dtype, (self.num_heads, -1)
        delta_TD = packed.shift(x_TD) - x_TD
        xr, xw, xk, xv, xa, xg = (
            torch.addcmul(x_TD, delta_TD, mix.flatten()).to(dtype)
            for mix in (self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)
        )
        r_TD, k_TD = self.receptance(xr).float(), self.key(xk).float()
        v_TD = self._value(xv, first_value_TD)
        if on_values is not None:
            on_values(v_TD)
        log_w_TD = -DECAY_SCALE * torch.sigmoid(self.w0 + self._low_rank("w", xw, torch.tanh))
        rate_TD = torch.sigmoid(self.a0 + self._low_rank("a", xa))
        removal_THK = F.normalize((k_TD * self.k_k).unflatten(-1, heads), dim=-1, eps=SHORTEST_KEY)
        k_TD = k_TD * (1 + (rate_TD - 1) * self.k_a)
        r, log_w, k, v, rate = (x.unflatten(-1, heads) for x in (r_TD, log_w_TD, k_TD, v_TD, rate_TD))
        y_THV, wkv_BHKV = wkv7_chunked(r, log_w, k, v, removal_THK, rate, packed)
        if on_wkv is not None:
            on_wkv(wkv_BHKV)
        y_TD = F.group_norm(y_THV.flatten(1), self.num_heads, self.ln_x.weight, self.ln_x.bias, self.ln_x.eps)
        bonus_TH1 = (r * k * self.r_k.view(heads)).sum(-1, keepdim=True)
        gate_TD = self._low_rank("g", xg, torch.sigmoid)
        out_TD = self.output(((y_TD + (bonus_TH1 * v).flatten(1)) * gate_TD).to(dtype)).float()
        return out_TD, v_TD if first_value_TD is None else first_value_TD

    def _value(self, xv: Tensor, first_value_TD: Tensor | None) -> Tensor:
        """Value [T, D], moved towards that of block 0 by a learned share of each channel."""
        v_TD: Tensor = self.value(xv).float()
        if first_value_TD is None:
            return v_TD
        return torch.lerp(v_TD, first_value_TD, torch.sigmoid(self.v0 + self._low_rank("v", xv)))

    def _low_rank(self, name: str, x_TD: Tensor, inner: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """inner(x @ name1) @ name2, [T, D] in fp32."""
        low_TR = matmul(x_TD, self.get_parameter(f"{name}1"))
        if inner is not None:
            low_TR = inner(low_TR.float())
        return matmul(low_TR, self.get_parameter(f"{name}2")).float()


class ChannelMix(nn.Module):
    """The feed-forward half of a block: squared ReLU behind a token shift, without a gate."""

    def __init__(self, config: Rwkv7Config) -> None:
        super().__init__()
        self.x_k = nn.Parameter(torch.empty(config.hidden_size))
        self.key = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.value = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.matmul_dtype = torch.float32

    def forward(self, x_TD: Tensor, packed: Packed) -> Tensor:
        """x [T, D] (after ln2) to what the block adds to the stream, [T, D], fp32."""
        dtype = self.matmul_dtype
        mixed_TD = torch.addcmul(x_TD, packed.shift(x_TD) - x_TD, self.x_k.flatten()).to(dtype)
        scale = FP16_SQUARE_SCALE if dtype == torch.float16 else 1.0
        k_TF = torch.relu(self.key(mixed_TD))
        return self.value(((k_TF / scale) ** 2).to(dtype)).float() * scale**2


class Block(nn.Module):
    """One residual block; block 0 also holds the norm of the embedding, where the table is not normed already."""

    def __init__(self, config: Rwkv7Config, index: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layer_norm_epsilon
        self.pre_ln = nn.LayerNorm(hidden, eps) if index == 0 and not config.normed_embedding else None
        self.ln1 = nn.LayerNorm(hidden, eps)
        self.ln2 = nn.LayerNorm(hidden, eps)
        self.attention = TimeMix(config, index)
        self.feed_forward = ChannelMix(config)

    def forward(
        self,
        h_TD: Tensor,
        packed: Packed,
        first_value_TD: Tensor | None,
        on_state: Callable[[Tensor, Tensor], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The residual stream before the block to the one after it, and block 0's value; all [T, D], fp32.

        Args:
            first_value_TD: block 0's value; None in block 0.
            on_state: as `OnState`, without the index.
        """
        wkv: list[Tensor] = []
        x_TD = self.ln1(h_TD)
        added_TD, first_value_TD = self.attention(x_TD, packed, first_value_TD, wkv.append if on_state else None)
        h_TD = h_TD + added_TD
        middle_TD = self.ln2(h_TD)
        if on_state is not None:
            last_B2D = [norm_TD.index_select(0, packed.last_B) for norm_TD in (x_TD, middle_TD)]
            on_state(wkv[0], torch.stack(last_B2D, 1))
        return h_TD + self.feed_forward(middle_TD, packed), first_value_TD
