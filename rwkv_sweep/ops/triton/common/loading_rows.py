"""Rows of packed tokens, as tiles of a kernel.

Shapes: T packed tokens, D channels; C rows and K columns of a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(ptr, rows, cols, mask, width):
    """Rows of ptr [T, D] as a tile [C, K], in its own dtype: tile = x[rows][:, cols], zeros outside `mask`.

    Loaded early and made fp32 late, it takes half the registers.
    """
    return tl.load(ptr + rows[:, None] * width + cols[None, :], mask=mask, other=0.0)
