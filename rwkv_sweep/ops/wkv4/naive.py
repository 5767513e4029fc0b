"""The WKV-4 operator, token by token: the reference that every fast path is tested against.

Shapes: T packed tokens, A channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed


def wkv4_reference(k_TA: Tensor, v_TA: Tensor, log_w_A: Tensor, u_A: Tensor, packed: Packed) -> Tensor:
    """WKV-4 of every sentence, from an empty state, as "RWKV: Reinventing RNNs for the Transformer Era" (arXiv
    2305.13048) defines it: an average of all values so far, with weights exp((t - 1 - i) log_w + k_i) for the tokens
    i before t and exp(u + k_t) for t itself.

    Sums are kept relative to their largest exponent, so that no exponential is above 1.

    Args:
        k_TA, v_TA: key and value.
        log_w_A: logarithm of the decay, below 0.
        u_A: added to the key of the current token.
        packed: the sentences; the state starts anew in each.

    Returns:
        [T, A], in the dtype of the inputs.
    """
    rows = []
    for start, length in zip(packed.starts_B.tolist(), packed.lengths, strict=True):
        sum_A, total_A = torch.zeros_like(u_A), torch.zeros_like(u_A)
        largest_A = torch.full_like(u_A, -torch.inf)
        for t in range(start, start + length):
            own_A = u_A + k_TA[t]
            top_A = torch.maximum(largest_A, own_A)
            before_A, now_A = torch.exp(largest_A - top_A), torch.exp(own_A - top_A)
            rows.append((before_A * sum_A + now_A * v_TA[t]) / (before_A * total_A + now_A))
            top_A = torch.maximum(largest_A + log_w_A, k_TA[t])
            before_A, now_A = torch.exp(largest_A + log_w_A - top_A), torch.exp(k_TA[t] - top_A)
            sum_A, total_A = before_A * sum_A + now_A * v_TA[t], before_A * total_A + now_A
            largest_A = top_A
    return torch.stack(rows) if rows else v_TA.new_zeros(v_TA.shape)
