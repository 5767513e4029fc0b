"""The mean over the tokens of each sentence, in one pass at the speed of memory.

Shapes: N tokens, or sums of several tokens each, B sentences, D hidden size.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rwkv_sweep.ops.triton.common.launching import on_device_of_input

ROWS, COLUMNS = 32, 64


@on_device_of_input
def segment_mean(rows_ND: Tensor, cu_seqlens_B1: Tensor, tokens_B1: Tensor | None = None) -> Tensor:
    """Sum of rows cu_seqlens[b] to cu_seqlens[b + 1] over their number, [N, D] in fp32 to [B, D].

    Args:
        rows_ND: tokens, or sums of several tokens each.
        cu_seqlens_B1: of the sentences among the rows.
        tokens_B1: of the sentences among the tokens, where the rows are sums.
    """
    width, sentences = rows_ND.shape[1], len(cu_seqlens_B1) - 1
    out_BD = torch.empty(sentences, width, device=rows_ND.device)
    if sentences:
        segment_mean_kernel[(triton.cdiv(width, COLUMNS), sentences)](
            rows_ND,
            cu_seqlens_B1,
            cu_seqlens_B1 if tokens_B1 is None else tokens_B1,
            out_BD,
            width=width,
            rows=ROWS,
            columns=COLUMNS,
            num_warps=4,
        )
    return out_BD


@triton.jit
def segment_mean_kernel(
    h_ptr, offsets_ptr, tokens_ptr, out_ptr, width: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr
):
    """out[b] = sum of the rows offsets[b] to offsets[b + 1] of h / (tokens[b + 1] - tokens[b]).

    h [N, D] and out [B, D] are fp32, offsets and tokens [B + 1] int64 (cu_seqlens). One program for `columns` channels
    of a sentence.
    """
    sentence = tl.program_id(1).to(tl.int64)
    start = tl.load(offsets_ptr + sentence)
    end = tl.load(offsets_ptr + sentence + 1)
    cols = tl.program_id(0) * columns + tl.arange(0, columns)
    total = tl.zeros([rows, columns], tl.float32)
    for first in range(start, end, rows):
        row = first + tl.arange(0, rows)
        mask = (row < end)[:, None] & (cols < width)[None, :]
        total += tl.load(h_ptr + row[:, None] * width + cols[None, :], mask=mask, other=0.0)
    tokens = tl.load(tokens_ptr + sentence + 1) - tl.load(tokens_ptr + sentence)
    mean = tl.sum(total, 0) / tokens.to(tl.float32)
    tl.store(out_ptr + sentence * width + cols, mean, mask=cols < width)
