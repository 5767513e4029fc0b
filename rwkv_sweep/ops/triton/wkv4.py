"""The WKV-4 operator with its receptance, over packed sentences.

One program reads some channels of one sentence, token by token: a channel's state is three numbers, kept in registers.

Shapes: T packed tokens, B sentences, A channels, C channels of a program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.triton.common.fast_math import exp, sigmoid
from rwkv_sweep.ops.triton.common.launching import on_device_of_input

CHANNELS = 64
"""Of one program."""
LOWEST = tl.constexpr(-1e38)
"""The largest exponent of a sentence of which nothing is read yet."""


@on_device_of_input
def wkv4(
    r_TA: Tensor, k_TA: Tensor, v_TA: Tensor, decay_A: Tensor, u_A: Tensor, packed: Packed, dtype: torch.dtype
) -> Tensor:
    """sigmoid(r) * WKV-4, [T, A].

    Args:
        r_TA, k_TA, v_TA: of T packed tokens, of any float dtype; summed in fp32.
        decay_A: the logarithm of the decay is -exp(decay); fp32.
        u_A: added to the key of the current token; fp32.
        packed: the sentences; the state starts anew in each.
        dtype: of the result.
    """
    width = r_TA.shape[1]
    out_TA = torch.empty(r_TA.shape, dtype=dtype, device=r_TA.device)
    if packed.lengths:
        grid = (triton.cdiv(width, CHANNELS), len(packed.lengths))
        tensors = (r_TA, k_TA, v_TA, decay_A, u_A, packed.cu_seqlens_B1, out_TA)
        wkv4_kernel[grid](*tensors, width=width, block=CHANNELS, num_warps=2)
    return out_TA


@triton.jit
def wkv4_kernel(r_ptr, k_ptr, v_ptr, decay_ptr, u_ptr, offsets_ptr, out_ptr, width: tl.constexpr, block: tl.constexpr):
    """out = sigmoid(r) * WKV-4(k, v, exp(-exp(decay)), u), as `ops.wkv4.wkv4_reference` has WKV-4.

    r, k and v [T, A] of any float dtype, decay and u [A] fp32, out [T, A] in its own dtype; offsets [B + 1] (int64) are
    the cu_seqlens of the sentences. One program for `block` channels of one sentence. Sums are kept relative to their
    largest exponent, so that no exponential is above 1.
    """
    cols = tl.program_id(0) * block + tl.arange(0, block)
    mask = cols < width
    start = tl.load(offsets_ptr + tl.program_id(1))
    end = tl.load(offsets_ptr + tl.program_id(1) + 1)
    log_w = -exp(tl.load(decay_ptr + cols, mask=mask, other=0.0))
    u = tl.load(u_ptr + cols, mask=mask, other=0.0)
    values = tl.zeros([block], tl.float32)
    weights = tl.zeros([block], tl.float32)
    largest = tl.zeros([block], tl.float32) + LOWEST
    # What a token needs is asked for one token ahead, as nothing else runs while it comes.
    at = start * width + cols
    r = tl.load(r_ptr + at, mask=mask, other=0.0)
    k = tl.load(k_ptr + at, mask=mask, other=0.0)
    v = tl.load(v_ptr + at, mask=mask, other=0.0)
    for t in range(start, end):
        at = t * width + cols
        ahead = mask & (t + 1 < end)
        next_r = tl.load(r_ptr + at + width, mask=ahead, other=0.0)
        next_k = tl.load(k_ptr + at + width, mask=ahead, other=0.0)
        next_v = tl.load(v_ptr + at + width, mask=ahead, other=0.0)
        key, value = k.to(tl.float32), v.to(tl.float32)
        top = tl.maximum(largest, u + key)
        before, now = exp(largest - top), exp(u + key - top)
        y = (before * values + now * value) / (before * weights + now)
        y *= sigmoid(r.to(tl.float32))
        tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=mask)
        top = tl.maximum(largest + log_w, key)
        before, now = exp(largest + log_w - top), exp(key - top)
        values = before * values + now * value
        weights = before * weights + now
        largest = top
        r, k, v = next_r, next_k, next_v
