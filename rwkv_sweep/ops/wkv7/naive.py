"""The WKV-7 operator, token by token: the reference that every fast form is tested against.

Shapes: T packed tokens, B sentences, H heads, K channels of a key, V of a value (K = V in all published models).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed


def wkv7_naive(
    r_THK: Tensor,
    log_w_THK: Tensor,
    k_THK: Tensor,
    v_THV: Tensor,
    removal_THK: Tensor,
    rate_THK: Tensor,
    packed: Packed,
) -> tuple[Tensor, Tensor]:
    """WKV-7 of every sentence, from a zero state ("RWKV-7 Goose", arXiv 2503.14456, section 4):
    S_t = S_{t-1} (diag(w_t) - kk_t (a_t * kk_t)^T) + v_t k_t^T,  y_t = S_t r_t.

    The published state S has values as rows. Here it lies transposed, keys first, as in WKV-6: P = S^T, so
    P_t = diag(w_t) P_{t-1} - (a_t * kk_t) (kk_t^T P_{t-1}) + k_t v_t^T. What is removed is read from the state before
    the decay, and the output from the state after the update.

    Args:
        r_THK: receptance.
        log_w_THK: logarithm of the decay w, at most 0.
        k_THK: key that is written, after its scaling by the in-context learning rate.
        v_THV: value.
        removal_THK: removal key kk, of length 1 per head.
        rate_THK: in-context learning rate a, between 0 and 1.
        packed: the sentences; the state starts anew in each.

    Returns:
        y [T, H, V] and the states after the last token of each sentence [B, H, K, V], in the dtype of the inputs.
    """
    heads, channels = k_THK.shape[1:]
    out, states = [], []
    for start, length in zip(packed.starts_B.tolist(), packed.lengths, strict=True):
        state_HKV = v_THV.new_zeros(heads, channels, v_THV.shape[-1])
        for t in range(start, start + length):
            read_HV = torch.einsum("hk,hkv->hv", removal_THK[t], state_HKV)
            state_HKV = (
                log_w_THK[t, :, :, None].exp() * state_HKV
                - (rate_THK[t] * removal_THK[t])[:, :, None] * read_HV[:, None, :]
                + k_THK[t, :, :, None] * v_THV[t, :, None, :]
            )
            out.append(torch.einsum("hk,hkv->hv", r_THK[t], state_HKV))
        states.append(state_HKV)
    if not states:
        return v_THV.new_zeros(v_THV.shape), v_THV.new_zeros(0, heads, channels, v_THV.shape[-1])
    return torch.stack(out), torch.stack(states)
