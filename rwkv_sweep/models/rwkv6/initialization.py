"""Fresh RWKV-6 weights: the starting point for training, and seeded random models for timing."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from rwkv_sweep.models.common.channel_mix import GatedChannelMix
from rwkv_sweep.models.rwkv6.blocks import Block, TimeMix
from rwkv_sweep.models.rwkv6.network import Rwkv6Model


@torch.no_grad()
def initialize(model: nn.Module, seed: int, zero_outputs: bool) -> None:
    """Fill all parameters in place.

    Mixes, decays and bonuses start as in RWKV-LM's RWKV-6 (channel ramps that depend on depth); matrices are normal
    with variance 1 / inputs, where RWKV-LM has orthogonal ones.

    Args:
        model: an `Rwkv6Model`, or a language model around one with a head, on any device.
        seed: seed of the generator of the model's device, where the weights are drawn; another kind of device draws
            others.
        zero_outputs: start each block as the identity (for training). A random model for timing needs False.
    """
    random = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    rwkv = model if isinstance(model, Rwkv6Model) else cast(Rwkv6Model, model.rwkv)
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            _normal(module.weight, module.in_features**-0.5, random)
    # A tiny embedding behind a norm, as in RWKV-LM: early steps can move every row far.
    _normal(rwkv.embeddings.weight, 1e-2, random)
    if rwkv is not model:
        head = cast(Any, model).head
        _normal(head.weight, 0.5 * head.in_features**-0.5, random)
    for index, block in enumerate(rwkv.blocks):
        assert isinstance(block, Block)
        depth = index / max(1, len(rwkv.blocks) - 1)
        remaining = 1 - index / len(rwkv.blocks)
        _time_mix(block.attention, depth, remaining, random, zero_outputs)
        _channel_mix(block.feed_forward, remaining, zero_outputs)


def _time_mix(mix: TimeMix, depth: float, remaining: float, random: torch.Generator, zero_outputs: bool) -> None:
    hidden, inner = mix.time_maa_x.numel(), mix.time_decay.numel()
    ramp = torch.arange(hidden) / hidden
    slow = 1 - ramp**remaining
    for name in ("x", "w", "k"):
        mix.get_parameter(f"time_maa_{name}").copy_(slow.view(1, 1, -1))
    mix.time_maa_v.copy_((slow - 0.3 * depth).view(1, 1, -1))
    for name in ("r", "g"):
        mix.get_parameter(f"time_maa_{name}").copy_((1 - ramp ** (0.5 * remaining)).view(1, 1, -1))
    channel = torch.arange(inner) / max(1, inner - 1)
    mix.time_decay.copy_((-6 + 5 * channel ** (0.7 + 1.3 * depth)).view(1, 1, -1))
    zigzag = ((torch.arange(inner) + 1) % 3 - 1) * 0.1
    mix.time_faaaa.copy_((depth * (1 - channel) + zigzag).view_as(mix.time_faaaa))
    for low, high in ((mix.time_maa_w1, mix.time_maa_w2), (mix.time_decay_w1, mix.time_decay_w2)):
        _normal(low, 1e-4 if zero_outputs else low.shape[0] ** -0.5, random)
        _normal(high, 1e-2, random)
    mix.key.weight.mul_(0.1)
    mix.gate.weight.mul_(0.1 if zero_outputs else 1.0)
    if zero_outputs:
        mix.output.weight.zero_()


def _channel_mix(mix: GatedChannelMix, remaining: float, zero_outputs: bool) -> None:
    hidden = mix.time_maa_k.numel()
    ramp = torch.arange(hidden) / hidden
    for maa in (mix.time_maa_k, mix.time_maa_r):
        maa.copy_((1 - ramp**remaining).view(1, 1, -1))
    if zero_outputs:
        mix.value.weight.zero_()
        mix.receptance.weight.zero_()


def _normal(weight: Tensor, std: float, random: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=random, device=weight.device).mul_(std))
