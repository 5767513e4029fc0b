"""The WKV-6 operator, token by token: the reference that every fast path is tested against.

Shapes: T packed tokens, B sentences, H heads of K key and V value channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed


def wkv6_reference(
    r_THK: Tensor, k_THK: Tensor, v_THV: Tensor, log_w_THK: Tensor, u_HK: Tensor, packed: Packed
) -> tuple[Tensor, Tensor]:
    """WKV-6 of every sentence, from a zero state, as eqs. 18 and 19 of "Eagle and Finch" (arXiv 2404.05892) put it:
    y_t = r_t (S_t + diag(u) k_t^T v_t), S_{t+1} = diag(w_t) S_t + k_t^T v_t.

    Args:
        r_THK, k_THK: receptance and key of T packed tokens, H heads, K channels.
        v_THV: value.
        log_w_THK: logarithm of the decay w, at most 0.
        u_HK: the bonus of the current token.
        packed: the sentences; the state starts anew in each.

    Returns:
        y [T, H, V] and the states after the last token of each sentence [B, H, K, V], in the dtype of the inputs.
    """
    heads, channels = u_HK.shape
    out, states = [], []
    for start, length in zip(packed.starts_B.tolist(), packed.lengths, strict=True):
        state_HKV = v_THV.new_zeros(heads, channels, v_THV.shape[-1])
        for t in range(start, start + length):
            kv_HKV = k_THK[t, :, :, None] * v_THV[t, :, None, :]
            out.append(torch.einsum("hk,hkv->hv", r_THK[t], state_HKV + u_HK[:, :, None] * kv_HKV))
            state_HKV = log_w_THK[t, :, :, None].exp() * state_HKV + kv_HKV
        states.append(state_HKV)
    y_THV = torch.stack(out) if out else v_THV.new_zeros(v_THV.shape)
    if not states:
        return y_THV, v_THV.new_zeros(0, heads, channels, v_THV.shape[-1])
    return y_THV, torch.stack(states)
