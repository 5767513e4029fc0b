"""The WKV-6 operator as matrix products over chunks of tokens, in plain PyTorch (CPU and GPU, with autograd).

Inside a chunk the decays between two tokens are written as a product of two factors, taken about the middle of the
chunk: exp(c_t - c_i) = exp(c_t - m) * exp(m - c_i), c being the running sum of log decays. The factors stay in the
range of fp32 as long as half a chunk decays by less than exp(MAX_EXPONENT); the chunk is chosen short enough for that.
Between chunks the state is carried as in the reference.

Shapes: T packed tokens, B sentences, N chunks of C tokens, H heads of K key and V value channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import ChunkPlan, Packed

MAX_EXPONENT = 60.0
CHUNKS = (16, 8, 4)


def wkv6_chunked(
    r_THK: Tensor,
    k_THK: Tensor,
    v_THV: Tensor,
    log_w_THK: Tensor,
    u_HK: Tensor,
    packed: Packed,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Same arguments and result as `wkv6_reference`, all in fp32; K and V must be equal.

    Args:
        chunk: tokens per chunk; None chooses the longest of `CHUNKS` that the decays allow. Log decays below
            -2 * MAX_EXPONENT / chunk are raised to it: with the shortest chunk that is exp(-30), nothing beside the
            rounding of fp32.
    """
    if not packed.lengths:
        return v_THV, v_THV.new_zeros(0, *u_HK.shape, v_THV.shape[-1])
    chunk = chunk or _longest_chunk(log_w_THK)
    log_w_THK = log_w_THK.clamp(min=-2 * MAX_EXPONENT / chunk)
    plan = packed.chunk_plan(chunk)
    r, k, v, log_w = (plan.to_chunks(x) for x in (r_THK, k_THK, v_THV, log_w_THK))  # each [N, H, C, K]
    total = log_w.cumsum(2)
    before = total - log_w
    last = total[:, :, -1:]
    kv_NHKV = (k * (last - total).exp()).transpose(2, 3) @ v
    start_NHKV, final_BHKV = _carry(kv_NHKV, last.transpose(2, 3).exp(), plan)
    y = (r * before.exp()) @ start_NHKV + _within(r, k, v, before, total, u_HK)
    return plan.from_chunks(y), final_BHKV


def _longest_chunk(log_w_THK: Tensor) -> int:
    strongest = -float(log_w_THK.detach().min())
    return next((chunk for chunk in CHUNKS if strongest * chunk / 2 <= MAX_EXPONENT), CHUNKS[-1])


def _within(r: Tensor, k: Tensor, v: Tensor, before: Tensor, total: Tensor, u_HK: Tensor) -> Tensor:
    """What the tokens of a chunk give to later tokens of the same chunk, and to themselves through u: [N, H, C, V]."""
    half = (total.shape[2] - 1) // 2
    middle = total[:, :, half : half + 1]
    scores = (r * (before - middle).exp()) @ (k * (middle - total).exp()).transpose(2, 3)
    # Above the diagonal the product can overflow; tril drops those entries without computing with them.
    return scores.tril(-1) @ v + (r * u_HK[:, None] * k).sum(-1, keepdim=True) * v


def _carry(kv_NHKV: Tensor, decay_NHK1: Tensor, plan: ChunkPlan) -> tuple[Tensor, Tensor]:
    """States at the start of each chunk [N, H, K, V] and at the end of each sentence [B, H, K, V]."""
    state = kv_NHKV.new_zeros(plan.steps[0], *kv_NHKV.shape[1:])
    starts, finished, row = [], [], 0
    for step, active in enumerate(plan.steps):
        finished.append(state[active:])
        state = state[:active]
        starts.append(state)
        if step == 0:
            state = kv_NHKV[:active]
        else:
            state = decay_NHK1[row : row + active] * state + kv_NHKV[row : row + active]
        row += active
    by_length = torch.cat([state, *reversed(finished)])
    return torch.cat(starts), by_length.index_select(0, torch.argsort(plan.order_B))
