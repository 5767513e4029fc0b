"""Seeded random RWKV-4 weights in any shape: for speed and memory without a download."""

from __future__ import annotations

import math
from typing import cast

import torch

from rwkv_sweep.models.common.initialization import fill_matrices, ramp_shares
from rwkv_sweep.models.rwkv4.blocks import Block, TimeMix
from rwkv_sweep.models.rwkv4.network import Rwkv4Model


@torch.no_grad()
def initialize(model: Rwkv4Model, seed: int) -> None:
    """Fill all parameters in place.

    Mixes, decays and bonuses start as in RWKV-LM's RWKV-4 (ramps over channels that depend on depth); matrices are
    normal with variance 1 / inputs, so that every part of a block does something.

    Args:
        model: on any device, where the weights are drawn; another kind of device draws others.
        seed: of the generator.
    """
    fill_matrices(model, torch.Generator(next(model.parameters()).device).manual_seed(seed))
    blocks = [cast(Block, block) for block in model.blocks]
    for index, block in enumerate(blocks):
        depth, remaining = index / max(1, len(blocks) - 1), 1 - index / len(blocks)
        _time_mix(block.attention, depth, remaining)
        ramp_shares(block.feed_forward, remaining)


def _time_mix(mix: TimeMix, depth: float, remaining: float) -> None:
    hidden, inner = mix.time_maa_k.numel(), mix.time_decay.numel()
    ramp, channel = torch.arange(hidden) / hidden, torch.arange(inner) / max(1, inner - 1)
    shares = {
        "k": 1 - ramp**remaining,
        "v": 1 - ramp**remaining - 0.3 * depth,
        "r": 1 - ramp ** (0.5 * remaining),
    }
    for name, share in shares.items():
        mix.get_parameter(f"time_maa_{name}").copy_(share.view(1, 1, -1))
    mix.time_decay.copy_(-5 + 8 * channel ** (0.7 + 1.3 * depth))
    mix.time_first.copy_(math.log(0.3) + ((torch.arange(inner) + 1) % 3 - 1) * 0.5)
