"""The WKV-4 operator as a parallel scan over tokens, in plain PyTorch (CPU and GPU, with autograd).

The weighted sums of two neighbouring runs of tokens combine into those of both: the earlier run decays by the length of
the later one, and both are taken relative to the larger of their largest exponents. So log2(longest sentence) passes
over all tokens give each token the sums over all tokens up to it (Hillis and Steele, 1986); no exponential is above 1.

Shapes: T packed tokens, B sentences, A channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed


def wkv4_scan(k_TA: Tensor, v_TA: Tensor, log_w_A: Tensor, u_A: Tensor, packed: Packed) -> Tensor:
    """Same arguments and result as `wkv4_reference`, all in fp32."""
    if not packed.lengths:
        return v_TA.new_zeros(v_TA.shape)
    tokens_T = torch.arange(packed.tokens, device=k_TA.device)
    lengths_B = packed.last_B - packed.starts_B + 1
    place_T = tokens_T - torch.repeat_interleave(packed.starts_B, lengths_B, output_size=packed.tokens)
    largest_TA, sum_TA, total_TA = _sums_up_to(k_TA, v_TA, log_w_A, place_T, packed.longest)
    # What the tokens before each one give; those of a first token weigh nothing.
    before_T = (tokens_T - 1).clamp(min=0)
    largest_TA = _without(largest_TA[before_T], place_T < 1)
    own_TA = u_A + k_TA
    top_TA = torch.maximum(largest_TA, own_TA)
    before_TA, now_TA = torch.exp(largest_TA - top_TA), torch.exp(own_TA - top_TA)
    return (before_TA * sum_TA[before_T] + now_TA * v_TA) / (before_TA * total_TA[before_T] + now_TA)


def _sums_up_to(
    k_TA: Tensor, v_TA: Tensor, log_w_A: Tensor, place_T: Tensor, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For each token the largest exponent so far, and relative to it the sums of weighted values and of weights.

    Args:
        place_T: number of tokens of its sentence before each token.
        longest: tokens of the longest sentence.
    """
    largest_TA, sum_TA, total_TA = k_TA, v_TA, torch.ones_like(k_TA)
    tokens_T = torch.arange(len(place_T), device=place_T.device)
    step = 1
    while step < longest:
        # Each token's run reaches `step` tokens back, or to the start; the run that ends before it is added.
        earlier_T = (tokens_T - step).clamp(min=0)
        earlier_TA = _without(largest_TA[earlier_T] + step * log_w_A, place_T < step)
        top_TA = torch.maximum(largest_TA, earlier_TA)
        early_TA, late_TA = torch.exp(earlier_TA - top_TA), torch.exp(largest_TA - top_TA)
        sum_TA = early_TA * sum_TA[earlier_T] + late_TA * sum_TA
        total_TA = early_TA * total_TA[earlier_T] + late_TA * total_TA
        largest_TA = top_TA
        step *= 2
    return largest_TA, sum_TA, total_TA


def _without(exponent_TA: Tensor, dropped_T: Tensor) -> Tensor:
    """Exponents of which those of some tokens count for nothing."""
    return exponent_TA.masked_fill(dropped_T[:, None], -torch.inf)
