"""RWKV-7's time mix on a CPU between its matrix products, in one pass over the tokens: decay, learning rate, value
residual and removal key before the WKV-7 operator, head norm, bonus and gate behind it.

Shapes: T packed tokens, B sentences, D channels in H heads of K key and V value channels, L channels of one piece of
work.

A state of K x K numbers stays in the first-level cache while its head reads a sentence. It is passed over once a token:
the update, the output, and what the next token's removal key reads, since that key is known before.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.compiling import ONE, NumbaKernel, call, compiled, exp32, inlined, sigmoid32
from rwkv_sweep.ops.numba.time_mix import _normalize

COST = 20
"""Of a channel, in simple steps: twice that of WKV-6, which multiplies each number of a state half as often."""
LANES = 64
"""Channels of one piece of work: one head, or several small ones, so that vectors are filled."""
ZERO = np.float32(0)
ONE_ROW, TWO = np.uint64(1), np.uint64(2)
DECAY_SCALE = np.float32(math.exp(-0.5))
SHORTEST_KEY = np.float32(1e-12)


@dataclass(frozen=True)
class Rows:
    """What a token's matrix products give, each [T, D] in fp32 and contiguous.

    Attributes:
        r_TD, k_TD, v_TD: receptance, key (before any scaling) and value (before its residual).
        decay_TD, rate_TD: low-rank parts of the logits of decay and learning rate.
        gate_TD: gate, as it multiplies.
        first_TD: block 0's value, and share_TD the low-rank part of the logits of its share; None in block 0.
    """

    r_TD: Tensor
    k_TD: Tensor
    v_TD: Tensor
    decay_TD: Tensor
    rate_TD: Tensor
    gate_TD: Tensor
    first_TD: Tensor | None = None
    share_TD: Tensor | None = None


def time_mix7(
    rows: Rows, vectors_6D: Tensor, norm: nn.GroupNorm, packed: Packed, states: bool
) -> tuple[Tensor, Tensor | None]:
    """What goes into the output projection [T, D], fp32, and the states [B, H, K, V] if asked for.

    Args:
        rows: what the matrix products give.
        vectors_6D: w0, a0, v0 (in block 0 anything), k_k, k_a and r_k of the block, fp32.
        norm: over the channels of each head.
        packed: the sentences.
        states: whether the states after the last tokens are wanted.
    """
    heads, width = norm.num_groups, norm.num_channels
    channels = width // heads
    y_TD = torch.empty_like(rows.r_TD)
    state_BHKV = torch.empty(len(packed.lengths) if states else 0, heads, channels, channels)
    if packed.lengths:
        none_TD = torch.empty(0, width)
        first_TD = none_TD if rows.first_TD is None else rows.first_TD
        share_TD = none_TD if rows.share_TD is None else rows.share_TD
        inputs = (rows.r_TD, rows.k_TD, rows.v_TD, rows.decay_TD, rows.rate_TD, rows.gate_TD, first_TD, share_TD)
        norm_2D = torch.stack((norm.weight, norm.bias))
        call(_scan(channels), *inputs, vectors_6D, norm_2D, norm.eps, packed.cu_seqlens_B1, y_TD, state_BHKV)
    return y_TD, state_BHKV if states else None


@functools.cache
def _scan(channels: int) -> NumbaKernel:
    """The kernel for heads of this size: a constant lets the compiler unroll and keep vectors in registers."""
    # Unsigned, since Numba takes a signed index that is below zero from the end, and asks each time.
    size, together = np.uint64(channels), np.uint64(max(1, LANES // channels) * channels)

    def scan(
        r_TD: Any,
        k_TD: Any,
        v_TD: Any,
        decay_TD: Any,
        rate_TD: Any,
        gate_TD: Any,
        first_TD: Any,
        share_TD: Any,
        vectors_6D: Any,
        norm_2D: Any,
        eps: Any,
        cu_seqlens_B1: Any,
        y_TD: Any,
        state_BHKV: Any,
    ) -> None:
        """y_TD and state_BHKV as `ops.wkv7.naive` gives them, with what is before and behind the operator in a time
        mix.

        r_TD, k_TD, v_TD, decay_TD, rate_TD, gate_TD, first_TD, share_TD and vectors_6D as in `time_mix7`; first_TD and
        share_TD are empty in block 0, state_BHKV where not asked for. norm_2D: weight and bias of the head norm. All
        fp32 but cu_seqlens_B1 (int64).
        """
        width = np.uint64(r_TD.shape[1])
        groups = np.int64((width + together - np.uint64(1)) // together)
        residual = len(share_TD) > 0
        for job in numba.prange((len(cu_seqlens_B1) - 1) * groups):
            b, first = job // groups, np.uint64(job % groups) * together
            lanes = min(together, width - first)
            heads = lanes // size
            state_LV = np.zeros((together, size), np.float32)
            # Of their own each: the compiler must know that none overlaps another.
            r_L, k_L = np.zeros(together, np.float32), np.zeros(together, np.float32)
            v_L, w_L = np.zeros(together, np.float32), np.zeros(together, np.float32)
            removal_L, written_L = np.zeros(together, np.float32), np.zeros(together, np.float32)
            read_L, next_L = np.zeros(together, np.float32), np.zeros(together, np.float32)
            y_L = np.zeros(together, np.float32)
            start, end = cu_seqlens_B1[b], cu_seqlens_B1[b + 1]
            _removal_keys(k_TD, vectors_6D, start, first, heads, size, removal_L)
            for t in range(start, end):
                for i in range(lanes):
                    at = first + i
                    rate = sigmoid32(rate_TD[t, at] + vectors_6D[1, at])
                    w_L[i] = exp32(-DECAY_SCALE * sigmoid32(decay_TD[t, at] + vectors_6D[0, at]))
                    r_L[i], v_L[i] = r_TD[t, at], v_TD[t, at]
                    k_L[i] = k_TD[t, at] * (ONE + (rate - ONE) * vectors_6D[4, at])
                    written_L[i] = -rate * removal_L[i]
                    y_L[i], next_L[i] = ZERO, ZERO
                if residual:
                    for i in range(lanes):
                        at = first + i
                        share = sigmoid32(share_TD[t, at] + vectors_6D[2, at])
                        v_L[i] += (first_TD[t, at] - v_L[i]) * share
                if t + 1 < end:
                    _removal_keys(k_TD, vectors_6D, t + 1, first, heads, size, removal_L)
                for head in range(heads):
                    here = head * size
                    # Two rows of the state at once: y, next, read and v are then loaded, and stored, half as often.
                    for half in range(size // TWO):
                        i = here + TWO * half
                        h = i + ONE_ROW
                        r, k, w, written, removal = r_L[i], k_L[i], w_L[i], written_L[i], removal_L[i]
                        r_h, k_h, w_h, written_h, removal_h = r_L[h], k_L[h], w_L[h], written_L[h], removal_L[h]
                        for j in range(size):
                            read, v = read_L[here + j], v_L[here + j]
                            number = w * state_LV[i, j] + written * read + k * v
                            below = w_h * state_LV[h, j] + written_h * read + k_h * v
                            state_LV[i, j] = number
                            state_LV[h, j] = below
                            y_L[here + j] += r * number + r_h * below
                            next_L[here + j] += removal * number + removal_h * below
                    if size % TWO == ONE_ROW:
                        i = here + size - ONE_ROW
                        r, k, w, written, removal = r_L[i], k_L[i], w_L[i], written_L[i], removal_L[i]
                        for j in range(size):
                            number = w * state_LV[i, j] + written * read_L[here + j] + k * v_L[here + j]
                            state_LV[i, j] = number
                            y_L[here + j] += r * number
                            next_L[here + j] += removal * number
                    _normalize(y_L, head * size, size, eps)
                    bonus = ZERO
                    for j in range(size):
                        bonus += r_L[here + j] * k_L[here + j] * vectors_6D[5, first + here + j]
                    for j in range(size):
                        at = first + here + j
                        y = y_L[here + j] * norm_2D[0, at] + norm_2D[1, at] + bonus * v_L[here + j]
                        y_TD[t, at] = y * gate_TD[t, at]
                for i in range(lanes):
                    read_L[i] = next_L[i]
            if len(state_BHKV) > 0:
                for i in range(lanes):
                    at = first + i
                    for j in range(size):
                        state_BHKV[b, at // size, at % size, j] = state_LV[i, j]

    return compiled(scan, cost=COST)


@inlined
def _removal_keys(k_TD: Any, vectors_6D: Any, t: Any, first: Any, heads: Any, size: Any, removal_L: Any) -> None:
    """removal_L = k_TD[t] * k_k, k_k being vectors_6D[3], divided by its length in each head; fp32."""
    for head in range(heads):
        here = head * size
        squares = ZERO
        for j in range(size):
            at = first + here + j
            key = k_TD[t, at] * vectors_6D[3, at]
            removal_L[here + j] = key
            squares += key * key
        scale = ONE / max(np.sqrt(squares), SHORTEST_KEY)
        for j in range(size):
            removal_L[here + j] *= scale
