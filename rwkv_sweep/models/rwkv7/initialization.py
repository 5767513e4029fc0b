"""Seeded random RWKV-7 weights in any shape: for speed and memory without a download."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rwkv_sweep.models.rwkv7.blocks import Block, ChannelMix, TimeMix
from rwkv_sweep.models.rwkv7.network import Rwkv7Model


@torch.no_grad()
def initialize(model: Rwkv7Model, seed: int) -> None:
    """Fill all parameters in place.

    Mixes, decays and biases start as in RWKV-LM's RWKV-7 (ramps over channels that depend on depth); matrices are
    normal, and those that RWKV-LM starts at zero are not, so that every part of a block does something.

    Args:
        model: on any device, where the weights are drawn; another kind of device draws others.
        seed: of the generator.
    """
    random = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            _normal(module.weight, module.in_features**-0.5, random)
    _normal(model.embeddings.weight, 1e-2, random)
    blocks = [cast(Block, block) for block in model.blocks]
    for index, block in enumerate(blocks):
        depth, remaining = index / max(1, len(blocks) - 1), 1 - index / len(blocks)
        _time_mix(block.attention, model.config.head_size, depth, remaining, random)
        _channel_mix(block.feed_forward, remaining)


def _time_mix(mix: TimeMix, head_size: int, depth: float, remaining: float, random: torch.Generator) -> None:
    hidden = mix.w0.numel()
    channel = torch.arange(hidden)
    ramp, line = channel / hidden, channel / max(1, hidden - 1)
    for name, power in (("r", 0.2), ("w", 0.9), ("k", 0.7), ("v", 0.7), ("a", 0.9), ("g", 0.2)):
        mix.get_parameter(f"x_{name}").copy_(1 - ramp ** (power * remaining))
    # Within a head, from -1 to 1 and steeper at the ends.
    zigzag = (channel % head_size) / max(1, head_size - 1) * 2 - 1
    zigzag = zigzag * zigzag.abs()
    mix.w0.copy_(-5.5 + 6 * line ** (1 + depth**0.3) + 2.5 * zigzag)
    mix.a0.copy_(-0.19 + 0.3 * zigzag + 0.4 * (line - 0.5))
    mix.k_k.copy_(0.71 - 0.1 * (line - 0.5))
    mix.k_a.fill_(1.02)
    mix.r_k.fill_(-0.04)
    if not mix.first:
        mix.v0.copy_(0.73 - 0.4 * (line - 0.5))
    for name in ("w", "a", "g") if mix.first else ("w", "a", "g", "v"):
        low, high = mix.get_parameter(f"{name}1"), mix.get_parameter(f"{name}2")
        _normal(low, low.shape[0] ** -0.5, random)
        _normal(high, high.shape[0] ** -0.5 * (1.0 if name == "g" else 0.3), random)
    mix.key.weight.mul_(0.1)


def _channel_mix(mix: ChannelMix, remaining: float) -> None:
    hidden = mix.x_k.numel()
    mix.x_k.copy_(1 - (torch.arange(hidden) / hidden) ** (remaining**4))


def _normal(weight: Tensor, std: float, random: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=random, device=weight.device).mul_(std))
