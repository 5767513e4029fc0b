"""One pass over the residual stream: add what a half-block gives, norm, shift, and mix for the next half-block.

Shapes: T packed tokens, D hidden size, M mixes, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.bf16 import narrowed, same_dtype, widened
from rwkv_sweep.ops.numba.compiling import ONE, call, compiled, inlined, sigmoid32

SPAN_TOKENS = 64
"""Tokens of one piece of work; the row before its first is normed once more."""
PLAIN, ADDED, GATED = 0, 1, 2


@dataclass(frozen=True)
class Normed:
    """A half-block's input.

    Attributes:
        h_TD: the residual stream, fp32.
        x_TD: its norm, fp32; empty where not asked for.
        mixed_MTD: M mixes of the norm with the norm of the token before, in the dtype asked for.
    """

    h_TD: Tensor
    x_TD: Tensor
    mixed_MTD: Tensor


def add_norm_mix(
    h_TD: Tensor,
    value_TD: Tensor | None,
    gate_TD: Tensor | None,
    norm: nn.LayerNorm,
    mixes: Sequence[Tensor],
    packed: Packed,
    keep_norm: bool,
    dtype: torch.dtype = torch.float32,
) -> Normed:
    """h + sigmoid(gate) * value, its layer norm x, and x + (x of the token before - x) * mix for each mix.

    Args:
        h_TD: residual stream, fp32; left as it is.
        value_TD: what is added; None adds nothing and returns h itself. bf16 where the gate and `dtype` are too, else
            read as fp32.
        gate_TD: None adds the value as it is.
        norm: of the next half-block.
        mixes: vectors of D numbers, fp32.
        packed: the sentences; the first token of each has zeros before it.
        keep_norm: also return x.
        dtype: of the mixes.
    """
    tokens, width = h_TD.shape
    out_TD = h_TD if value_TD is None else torch.empty_like(h_TD)
    value_TD, gate_TD, like = same_dtype(value_TD, gate_TD, torch.empty(0, 0, dtype=dtype))
    assert like is not None
    mixed_MTD = torch.empty(len(mixes), tokens, width, dtype=like.dtype)
    x_TD = torch.empty(tokens if keep_norm else 0, width)
    adding = PLAIN if value_TD is None else ADDED if gate_TD is None else GATED
    value_TD = like if value_TD is None else value_TD
    call(
        add_norm_mix_kernel,
        h_TD,
        value_TD,
        value_TD if gate_TD is None else gate_TD,
        adding,
        norm.weight,
        norm.bias,
        norm.eps,
        torch.cat([mix.reshape(1, width) for mix in mixes]).float(),
        packed.first_T,
        out_TD,
        x_TD,
        mixed_MTD,
    )
    return Normed(out_TD, x_TD, mixed_MTD.to(dtype))


def add(h_TD: Tensor, value_TD: Tensor, gate_TD: Tensor) -> Tensor:
    """h + sigmoid(gate) * value, [T, D], fp32; value and gate fp32 or bf16."""
    out_TD = torch.empty_like(h_TD)
    value, gate = same_dtype(value_TD, gate_TD)
    assert value is not None and gate is not None
    call(add_kernel, h_TD, value, gate, out_TD)
    return out_TD


@inlined
def _add_row(h_TD: Any, value_TD: Any, gate_TD: Any, t: Any, adding: Any, out_D: Any) -> None:
    """out_D = h_TD[t] + sigmoid(gate_TD[t]) * value_TD[t], without gate or h_TD[t] alone by `adding`; fp32, but
    value_TD and gate_TD may be bf16."""
    if adding == GATED:
        for d in range(len(out_D)):
            out_D[d] = h_TD[t, d] + widened(value_TD[t, d]) * sigmoid32(widened(gate_TD[t, d]))  # type: ignore[call-arg]
    elif adding == ADDED:
        for d in range(len(out_D)):
            out_D[d] = h_TD[t, d] + widened(value_TD[t, d])  # type: ignore[call-arg]
    else:
        for d in range(len(out_D)):
            out_D[d] = h_TD[t, d]


@inlined
def _norm_row(h_D: Any, weight_D: Any, bias_D: Any, eps: Any, out_RD: Any, row: Any) -> None:
    """out_RD[row] = layer norm of h_D = (h_D - mean) / sqrt(variance + eps) * weight_D + bias_D, fp32."""
    width = np.float32(len(h_D))
    total = np.float32(0)
    for d in range(len(h_D)):
        total += h_D[d]
    mean = total / width
    squares = np.float32(0)
    for d in range(len(h_D)):
        squares += (h_D[d] - mean) * (h_D[d] - mean)
    scale = ONE / np.sqrt(squares / width + np.float32(eps))
    for d in range(len(h_D)):
        out_RD[row, d] = (h_D[d] - mean) * scale * weight_D[d] + bias_D[d]


@compiled
def add_norm_mix_kernel(
    h_TD: Any,
    value_TD: Any,
    gate_TD: Any,
    adding: Any,
    weight_D: Any,
    bias_D: Any,
    eps: Any,
    mix_MD: Any,
    first_T: Any,
    out_TD: Any,
    x_TD: Any,
    mixed_MTD: Any,
) -> None:
    """out_TD = h_TD + sigmoid(gate_TD) * value_TD, x_TD = its layer norm (weight_D, bias_D), and mixes of that norm:
    mixed_MTD[m] = x_TD + (x_TD of the token before - x_TD) * mix_MD[m], as `models.rwkv6.blocks` computes them.

    All fp32 but value_TD, gate_TD and mixed_MTD, which may be bf16, and first_T (int8), which marks the first token of
    each sentence: before it stand zeros. out_TD is not written where `adding` is `PLAIN`, x_TD not where it is empty.
    """
    # Rows are indexed, not cut out: a view counts references, and threads that count the same ones wait for each other.
    tokens, width = h_TD.shape
    for span in numba.prange((tokens + SPAN_TOKENS - 1) // SPAN_TOKENS):
        start = span * SPAN_TOKENS
        sum_D, norm_2D = np.zeros(width, np.float32), np.zeros((2, width), np.float32)
        now = 0
        if start > 0:
            _add_row(h_TD, value_TD, gate_TD, start - 1, adding, sum_D)
            _norm_row(sum_D, weight_D, bias_D, eps, norm_2D, now)
        for t in range(start, min(start + SPAN_TOKENS, tokens)):
            before, now = now, 1 - now
            if first_T[t] == 1:
                for d in range(width):
                    norm_2D[before, d] = np.float32(0)
            _add_row(h_TD, value_TD, gate_TD, t, adding, sum_D)
            if adding != PLAIN:
                for d in range(width):
                    out_TD[t, d] = sum_D[d]
            _norm_row(sum_D, weight_D, bias_D, eps, norm_2D, now)
            if len(x_TD) > 0:
                for d in range(width):
                    x_TD[t, d] = norm_2D[now, d]
            for m in range(len(mix_MD)):
                for d in range(width):
                    moved = (norm_2D[before, d] - norm_2D[now, d]) * mix_MD[m, d]
                    mixed_MTD[m, t, d] = narrowed(norm_2D[now, d] + moved, mixed_MTD)  # type: ignore[call-arg]


@compiled
def add_kernel(h_TD: Any, value_TD: Any, gate_TD: Any, out_TD: Any) -> None:
    """out_TD = h_TD + sigmoid(gate_TD) * value_TD, fp32; value_TD and gate_TD may be bf16."""
    tokens, width = h_TD.shape
    for t in numba.prange(tokens):
        for d in range(width):
            added = widened(value_TD[t, d]) * sigmoid32(widened(gate_TD[t, d]))  # type: ignore[call-arg]
            out_TD[t, d] = h_TD[t, d] + added
