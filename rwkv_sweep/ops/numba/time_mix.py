"""The WKV operator of RWKV-5 and RWKV-6 with everything about it: decays before, group norm and gate behind, while a
row is in registers.

A state of K x K numbers stays in the first-level cache while its head reads a sentence, so the operator costs little
beside the matrix products around it; no chunking pays here.

Shapes: T packed tokens, B sentences, D channels in H heads of K key and V value channels, L channels of one piece of
work.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.bf16 import narrowed, same_dtype, widened
from rwkv_sweep.ops.numba.compiling import ONE, NumbaKernel, call, compiled, exp32, inlined, sigmoid32


def time_mix(
    r_TD: Tensor,
    k_TD: Tensor,
    v_TD: Tensor,
    gate_TD: Tensor,
    decay_TD: Tensor | None,
    decay_D: Tensor,
    u_HK: Tensor,
    norm: nn.GroupNorm,
    packed: Packed,
    states: bool,
) -> tuple[Tensor, Tensor | None]:
    """silu(gate) * norm(WKV(r, k, v, exp(-exp(decay)))), [T, D], and the states [B, H, K, V] in fp32 if asked for.

    The first is bf16 where all inputs of T rows are, otherwise fp32; the operator itself runs in fp32.

    Args:
        r_TD, k_TD, v_TD, gate_TD: the four projections, fp32 or bf16.
        decay_TD, decay_D: the data-dependent and the fixed part of the logarithm of minus the logarithm of the decay;
            where the first is None, as in RWKV-5, a channel has one decay for all tokens.
        u_HK: the bonus of the current token.
        norm: over the channels of each head.
        packed: the sentences.
        states: whether the states after the last tokens are wanted.
    """
    heads, channels = u_HK.shape
    none_TD = None if decay_TD is not None else r_TD.new_empty(0, 0)
    rows = [x for x in same_dtype(r_TD, k_TD, v_TD, gate_TD, decay_TD, none_TD) if x is not None]
    y_TD = torch.empty_like(rows[0])
    state_BHKV = torch.empty(len(packed.lengths) if states else 0, heads, channels, channels)
    if packed.lengths:
        vectors = (decay_D, u_HK.flatten(), norm.weight, norm.bias)
        call(scan_kernel(channels), *rows, *vectors, norm.eps, packed.cu_seqlens_B1, y_TD, state_BHKV)
    return y_TD, state_BHKV if states else None


COST = 10
"""Of a channel, in simple steps; measured, not counted: below the bound that this sets one thread is as fast as two."""
LANES = 64
"""Channels of one piece of work: one head, or several small ones, so that vectors are filled."""
ZERO = np.float32(0)


@functools.cache
def scan_kernel(channels: int) -> NumbaKernel:
    """The kernel for heads of this size: a constant lets the compiler unroll and keep vectors in registers."""
    # Unsigned, since Numba takes a signed index that is below zero from the end, and asks each time.
    size, together = np.uint64(channels), np.uint64(max(1, LANES // channels) * channels)

    def scan(
        r_TD: Any,
        k_TD: Any,
        v_TD: Any,
        gate_TD: Any,
        decay_TD: Any,
        decay_D: Any,
        u_D: Any,
        weight_D: Any,
        bias_D: Any,
        eps: Any,
        cu_seqlens_B1: Any,
        y_TD: Any,
        state_BHKV: Any,
    ) -> None:
        """y_TD = silu(gate_TD) * (norm(WKV(r_TD, k_TD, v_TD, w)) * weight_D + bias_D), as `ops.wkv6.wkv6_reference` has
        WKV.

        w = exp(-exp(decay_TD + decay_D)), or exp(-exp(decay_D)) where decay_TD is empty; u_D is the bonus of the
        current token. All fp32 but cu_seqlens_B1 (int64), and the arrays of T rows where they are bf16. state_BHKV
        gets the states after each sentence's last token, unless it is empty.
        """
        width = np.uint64(len(u_D))
        groups = np.int64((width + together - np.uint64(1)) // together)
        for job in numba.prange((len(cu_seqlens_B1) - 1) * groups):
            b, first = job // groups, np.uint64(job % groups) * together
            lanes = min(together, width - first)
            heads = lanes // size
            state_LV = np.zeros((together, size), np.float32)
            # Of their own each: the compiler must know that none overlaps another.
            r_L, k_L = np.zeros(together, np.float32), np.zeros(together, np.float32)
            v_L, w_L = np.zeros(together, np.float32), np.zeros(together, np.float32)
            y_L = np.zeros(together, np.float32)
            if len(decay_TD) == 0:
                for i in range(lanes):
                    w_L[i] = exp32(-exp32(decay_D[first + i]))
            for t in range(cu_seqlens_B1[b], cu_seqlens_B1[b + 1]):
                for i in range(lanes):
                    at = first + i
                    r_L[i], k_L[i] = widened(r_TD[t, at]), widened(k_TD[t, at])  # type: ignore[call-arg]
                    v_L[i], y_L[i] = widened(v_TD[t, at]), ZERO
                if len(decay_TD) > 0:
                    for i in range(lanes):
                        at = first + i
                        w_L[i] = exp32(-exp32(widened(decay_TD[t, at]) + decay_D[at]))  # type: ignore[call-arg]
                for head in range(heads):
                    here = head * size
                    for row in range(size):
                        i = here + row
                        r, k, w = r_L[i], k_L[i], w_L[i]
                        bonus = r * k * u_D[first + i]
                        for j in range(size):
                            y_L[here + j] += r * state_LV[i, j] + bonus * v_L[here + j]
                            state_LV[i, j] = w * state_LV[i, j] + k * v_L[here + j]
                    _normalize(y_L, head * size, size, eps)
                for i in range(lanes):
                    at = first + i
                    gate: Any = widened(gate_TD[t, at])  # type: ignore[call-arg]
                    y = (y_L[i] * weight_D[at] + bias_D[at]) * gate * sigmoid32(gate)
                    y_TD[t, at] = narrowed(y, y_TD)
            if len(state_BHKV) > 0:
                for i in range(lanes):
                    at = first + i
                    for j in range(size):
                        state_BHKV[b, at // size, at % size, j] = state_LV[i, j]

    return compiled(scan, cost=COST)


@inlined
def _normalize(y_L: Any, start: Any, size: Any, eps: Any) -> None:
    """y_L[start : start + size] = (y_L - mean) / sqrt(variance + eps) over one head, fp32, in place."""
    total = ZERO
    for j in range(size):
        total += y_L[start + j]
    mean = total / np.float32(size)
    squares = ZERO
    for j in range(size):
        squares += (y_L[start + j] - mean) * (y_L[start + j] - mean)
    scale = ONE / np.sqrt(squares / np.float32(size) + np.float32(eps))
    for j in range(size):
        y_L[start + j] = (y_L[start + j] - mean) * scale
