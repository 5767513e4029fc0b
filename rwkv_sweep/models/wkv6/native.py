"""The WKV-6 operator compiled for the CPU by Numba: the reference's loop, over sentences and heads in parallel.

A state of K x K numbers stays in the first-level cache while its head reads a sentence, so the operator costs little
beside the matrix products around it; no chunking pays here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import numba
import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.models.packed import Packed

# Numba's OpenMP pool would be a second one beside PyTorch's: waiting threads of each spin and take the other's cores.
numba.config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]
_one_at_a_time = threading.Lock()
"""Numba's own pool takes one caller at a time."""


def wkv6_native(
    r_THK: Tensor, k_THK: Tensor, v_THV: Tensor, log_w_THK: Tensor, u_HK: Tensor, packed: Packed
) -> tuple[Tensor, Tensor]:
    """Same arguments and result as `wkv6_reference`, all in fp32 on the CPU; K and V must be equal; no autograd."""
    heads, channels = u_HK.shape
    y_THV = torch.empty_like(v_THV, memory_format=torch.contiguous_format)
    state_BHKV = torch.empty(len(packed.lengths), heads, channels, channels)
    if packed.lengths:
        inputs = (r_THK, k_THK, v_THV, log_w_THK.exp(), u_HK, packed.offsets_B1)
        arrays = [tensor.detach().contiguous().numpy() for tensor in inputs]
        with _one_at_a_time:
            # As many threads as PyTorch has, so that `device.threads` rules both.
            numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
            _scan(channels)(*arrays, y_THV.numpy(), state_BHKV.numpy())
    return y_THV, state_BHKV


@functools.cache
def _scan(channels: int) -> Callable[..., None]:
    """The loop for heads of this size: a constant lets the compiler unroll and keep vectors in registers."""

    @numba.njit(parallel=True, fastmath=True, cache=True, error_model="numpy")
    def scan(
        r_THK: np.ndarray,
        k_THK: np.ndarray,
        v_THV: np.ndarray,
        w_THK: np.ndarray,
        u_HK: np.ndarray,
        offsets_B1: np.ndarray,
        y_THV: np.ndarray,
        state_BHKV: np.ndarray,
    ) -> None:
        heads = u_HK.shape[0]
        for job in numba.prange(state_BHKV.shape[0] * heads):
            b, h = job // heads, job % heads
            state_KV = np.zeros((channels, channels), np.float32)
            for t in range(offsets_B1[b], offsets_B1[b + 1]):
                y_V = np.zeros(channels, np.float32)
                for i in range(channels):
                    r, k, w = r_THK[t, h, i], k_THK[t, h, i], w_THK[t, h, i]
                    bonus = r * u_HK[h, i] * k
                    for j in range(channels):
                        y_V[j] += r * state_KV[i, j] + bonus * v_THV[t, h, j]
                        state_KV[i, j] = w * state_KV[i, j] + k * v_THV[t, h, j]
                y_THV[t, h] = y_V
            state_BHKV[b, h] = state_KV

    return scan


def warm_up(channels: int) -> None:
    """Compile the loop for heads of this size, or read it from Numba's cache."""
    x_THK = torch.zeros(1, 1, channels)
    wkv6_native(x_THK, x_THK, x_THK, x_THK, x_THK[0], Packed.of([1]))


if __name__ == "__main__":
    for size in (8, 64):
        warm_up(size)
