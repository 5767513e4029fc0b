"""The WKV-6 operator compiled for the CPU by Numba: the reference's loop, over sentences and heads in parallel.

A state of K x V numbers stays in the first-level cache while its head reads a sentence, so the operator costs little
beside the matrix products around it; no chunking pays here.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.models.packed import Packed


def wkv6_native(
    r_THK: Tensor, k_THK: Tensor, v_THV: Tensor, log_w_THK: Tensor, u_HK: Tensor, packed: Packed
) -> tuple[Tensor, Tensor]:
    """Same arguments and result as `wkv6_reference`, all in fp32 on the CPU; no autograd."""
    heads, channels = u_HK.shape
    y_THV = torch.empty_like(v_THV, memory_format=torch.contiguous_format)
    state_BHKV = torch.zeros(len(packed.lengths), heads, channels, v_THV.shape[-1])
    if packed.lengths:
        # As many threads as PyTorch has, so that `device.threads` rules both.
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        inputs = (r_THK, k_THK, v_THV, log_w_THK.exp(), u_HK)
        arrays = [tensor.detach().contiguous().numpy() for tensor in inputs]
        _scan(  # type: ignore[call-arg]
            *arrays, packed.offsets_B1.numpy(), y_THV.numpy(), state_BHKV.numpy()
        )
    return y_THV, state_BHKV


@numba.njit(parallel=True, fastmath=True, cache=True, error_model="numpy")
def _scan(
    r_THK: np.ndarray,
    k_THK: np.ndarray,
    v_THV: np.ndarray,
    w_THK: np.ndarray,
    u_HK: np.ndarray,
    offsets_B1: np.ndarray,
    y_THV: np.ndarray,
    state_BHKV: np.ndarray,
) -> None:
    heads, channels = u_HK.shape
    values = v_THV.shape[2]
    for job in numba.prange(state_BHKV.shape[0] * heads):
        b, h = job // heads, job % heads
        state_KV = state_BHKV[b, h]
        y_V = np.empty(values, np.float32)
        for t in range(offsets_B1[b], offsets_B1[b + 1]):
            v_V = v_THV[t, h]
            y_V[:] = 0.0
            for i in range(channels):
                r, k, w = r_THK[t, h, i], k_THK[t, h, i], w_THK[t, h, i]
                bonus = r * u_HK[h, i] * k
                row_V = state_KV[i]
                for j in range(values):
                    y_V[j] += r * row_V[j] + bonus * v_V[j]
                    row_V[j] = w * row_V[j] + k * v_V[j]
            y_THV[t, h] = y_V
