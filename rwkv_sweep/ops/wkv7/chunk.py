"""The WKV-7 operator as matrix products over chunks of tokens, in plain PyTorch (CPU and GPU, with autograd).

Shapes: T packed tokens, B sentences, N chunks of C tokens, H heads, K channels of a key, V of a value.

With P the state [K, V], c_t the product of the chunk's decays up to token t, kk the removal key and b = a * kk, a token
does P_t = diag(w_t) P_{t-1} - b_t u_t^T + k_t v_t^T with u_t = P_{t-1}^T kk_t. Written for P_t / c_t, the u of a chunk
solve one triangular system:

    (I + tril(Q B^T, -1)) U = Q P_0 + tril(Q K^T, -1) V    Q = c_{t-1} kk, B = b / c_t, K = k / c_t
    Y = R P_0 + tril(R K^T) V - tril(R B^T) U              R = c_t r
    P_C = diag(c_C) (P_0 + K^T V - B^T U)

U = W P_0 + U_0 is linear in the state that a chunk starts from. So W and U_0 come for all chunks at once, the states
are carried from chunk to chunk by P_C = M P_0 + A, and the outputs come for all chunks at once again.

Products of decays are taken about the middle of a chunk, so no factor leaves exp(+-C / 2 * 0.607): RWKV-7's decays lie
above exp(-exp(-1/2)) = 0.545.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import ChunkPlan, Packed

CHUNK = 16
"""Tokens per chunk."""


def wkv7_chunked(
    r_THK: Tensor,
    log_w_THK: Tensor,
    k_THK: Tensor,
    v_THV: Tensor,
    removal_THK: Tensor,
    rate_THK: Tensor,
    packed: Packed,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Same arguments and result as `wkv7_naive`, all in fp32 or fp64.

    Args:
        chunk: tokens per chunk. Log decays must stay above -160 / chunk, where fp32 ends; RWKV-7's are above -0.607.
    """
    if not packed.lengths:
        return v_THV, v_THV.new_zeros(0, *k_THK.shape[1:], v_THV.shape[-1])
    plan = packed.chunk_plan(chunk)
    r, log_w, k, v, removal, rate = (
        plan.to_chunks(x) for x in (r_THK, log_w_THK, k_THK, v_THV, removal_THK, rate_THK)
    )  # each [N, H, C, K]
    b = rate * removal
    total = log_w.cumsum(2)
    before, last = total - log_w, total[:, :, -1:]
    middle = total[:, :, (chunk - 1) // 2 : (chunk - 1) // 2 + 1]
    # Rows that are read are decayed up to their token; rows that were written, from their token on.
    removal_rows, r_rows = removal * (before - middle).exp(), r * (total - middle).exp()
    b_columns, k_columns = (b * (middle - total).exp()).mT, (k * (middle - total).exp()).mT
    system = (removal_rows @ b_columns).tril(-1)
    written = (removal_rows @ k_columns).tril(-1) @ v
    both = torch.cat((removal * before.exp(), written), -1)
    solved = torch.linalg.solve_triangular(system, both, upper=False, unitriangular=True)
    w_NHCK, u_NHCV = solved.split((k.shape[-1], v.shape[-1]), -1)
    b_end, k_end = (b * (last - total).exp()).mT, (k * (last - total).exp()).mT
    transition_NHKK = torch.diag_embed(last.squeeze(2).exp()) - b_end @ w_NHCK
    start_NHKV, final_BHKV = _carry(transition_NHKK, k_end @ v - b_end @ u_NHCV, plan)
    u_NHCV = u_NHCV + w_NHCK @ start_NHKV
    y = (r * total.exp()) @ start_NHKV + (r_rows @ k_columns).tril() @ v - (r_rows @ b_columns).tril() @ u_NHCV
    return plan.from_chunks(y), final_BHKV


def _carry(transition_NHKK: Tensor, added_NHKV: Tensor, plan: ChunkPlan) -> tuple[Tensor, Tensor]:
    """States at the start of each chunk [N, H, K, V] and at the end of each sentence [B, H, K, V]."""
    state = added_NHKV.new_zeros(plan.steps[0], *added_NHKV.shape[1:])
    starts, finished, row = [], [], 0
    for step, active in enumerate(plan.steps):
        finished.append(state[active:])
        state = state[:active]
        starts.append(state)
        rows = slice(row, row + active)
        state = added_NHKV[rows] if step == 0 else transition_NHKK[rows] @ state + added_NHKV[rows]
        row += active
    by_length = torch.cat([state, *reversed(finished)])
    return torch.cat(starts), by_length.index_select(0, torch.argsort(plan.order_B))
