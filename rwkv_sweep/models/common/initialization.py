"""Random weights of RWKV-4 and 5: what both draw alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import GatedChannelMix


def fill_matrices(model: nn.Module, random: torch.Generator) -> None:
    """Norms as they start, linear layers with variance 1 / inputs, and a small embedding."""
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            _normal(module.weight, module.in_features**-0.5, random)
        elif isinstance(module, nn.Embedding):
            _normal(module.weight, 1e-2, random)


def ramp_shares(mix: GatedChannelMix, remaining: float) -> None:
    """Shares of the token before in a channel mix, from 0 up to 1 over the channels.

    Args:
        remaining: from 1 in the first block towards 0.
    """
    hidden = mix.time_maa_k.numel()
    for maa in (mix.time_maa_k, mix.time_maa_r):
        maa.copy_((1 - (torch.arange(hidden) / hidden) ** remaining).view(1, 1, -1))


def _normal(weight: Tensor, std: float, random: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=random, device=weight.device).mul_(std))
