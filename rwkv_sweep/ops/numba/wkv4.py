"""The WKV-4 operator on a CPU with its receptance, in one pass over the tokens.

Shapes: T packed tokens, B sentences, A channels, L channels of one piece of work.

A channel's state is three numbers, which stay in registers while a sentence is read; channels fill the vectors.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.compiling import ONE, call, compiled, exp32

COST = 10
"""Of a channel, in simple steps: five exponentials."""
LANES = 64
"""Channels of one piece of work."""
LOWEST = np.float32(-1e38)
"""The largest exponent of a sentence of which nothing is read yet."""


def wkv4(r_TA: Tensor, k_TA: Tensor, v_TA: Tensor, log_w_A: Tensor, u_A: Tensor, packed: Packed) -> Tensor:
    """sigmoid(r) * WKV-4, [T, A] in fp32; the other arguments as in `rwkv_sweep.ops.wkv4.wkv4_reference`."""
    y_TA = torch.empty_like(r_TA)
    if packed.lengths:
        call(_scan, r_TA, k_TA, v_TA, log_w_A, u_A, packed.cu_seqlens_B1, y_TA)
    return y_TA


def _scan_channels(r_TA: Any, k_TA: Any, v_TA: Any, log_w_A: Any, u_A: Any, cu_seqlens_B1: Any, y_TA: Any) -> None:
    """y_TA = sigmoid(r_TA) * WKV-4(k_TA, v_TA, log_w_A, u_A), as `ops.wkv4.wkv4_reference` has WKV-4.

    All fp32 but cu_seqlens_B1 (int64), where sentences start and end.
    """
    # Unsigned, since Numba takes a signed index that is below zero from the end, and asks each time.
    width, size = np.uint64(len(u_A)), np.uint64(LANES)
    groups = np.int64((width + size - np.uint64(1)) // size)
    for job in numba.prange((len(cu_seqlens_B1) - 1) * groups):
        b, first = job // groups, np.uint64(job % groups) * size
        lanes = min(size, width - first)
        sum_L, total_L = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
        largest_L = np.full(LANES, LOWEST, np.float32)
        for t in range(cu_seqlens_B1[b], cu_seqlens_B1[b + 1]):
            for i in range(lanes):
                at = first + i
                k, v, largest = k_TA[t, at], v_TA[t, at], largest_L[i]
                own = u_A[at] + k
                top = max(largest, own)
                before, now = exp32(largest - top), exp32(own - top)
                average = (before * sum_L[i] + now * v) / (before * total_L[i] + now)
                y_TA[t, at] = average / (ONE + exp32(-r_TA[t, at]))
                decayed = largest + log_w_A[at]
                top = max(decayed, k)
                before, now = exp32(decayed - top), exp32(k - top)
                sum_L[i] = before * sum_L[i] + now * v
                total_L[i] = before * total_L[i] + now
                largest_L[i] = top


_scan = compiled(_scan_channels, cost=COST)
