"""One pass over the residual stream: add what a half-block gives, norm, shift, and mix for the next half-block.

Shapes: T packed tokens, D hidden size, M mixes, N spans of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
from torch import Tensor, nn

from rwkv_sweep.ops.common.number_formats import LARGEST
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.triton.common.dependent_launch import can_depend
from rwkv_sweep.ops.triton.common.launching import on_device_of_input
from rwkv_sweep.ops.triton.quantized.quantize_rows import ROUNDING
from rwkv_sweep.ops.triton.residual_kernel import residual_kernel

ONE_ROW_UP_TO = 2048
"""Batches of at most this many tokens give each token a program of its own; larger ones let a program walk over
`SPAN_TOKENS` neighbours, which norms the row before a token once instead of twice."""
SPAN_TOKENS = 16
MOST_MIXES = 4


@dataclass(frozen=True)
class Normed:
    """A half-block's input.

    Attributes:
        h_TD: the residual stream, fp32.
        x_MTD: M mixes of its norm with the norm of the token before, in the dtype of the matrix products.
        scale_MT: where the mixes are 8-bit rows, what each row must be multiplied by, fp32; else None.
        mean_T, rstd_T: of the norm, fp32, for whoever mixes again.
        sums_ND: sums of h over each span of `Packed.spans`; None where not asked for.
        amax_T: largest size of an entry of each row's norm; None where not asked for.
    """

    h_TD: Tensor
    x_MTD: Tensor
    mean_T: Tensor
    rstd_T: Tensor
    scale_MT: Tensor | None = None
    sums_ND: Tensor | None = None
    amax_T: Tensor | None = None


@on_device_of_input
def add_norm_mix(
    h_TD: Tensor,
    value_TD: Tensor | None,
    gate_TD: Tensor | None,
    norm: nn.LayerNorm | None,
    mixes: Sequence[Tensor],
    packed: Packed,
    dtype: torch.dtype,
    scale: float = 1.0,
    sums: bool = False,
    amax: bool = False,
) -> Normed:
    """h + sigmoid(gate) * value * scale, its layer norm x, and x + (x of the token before - x) * mix for each mix.

    Args:
        h_TD: residual stream, fp32; left as it is, since neighbours read it while others write.
        value_TD: what is added, of any dtype; None adds nothing and returns h itself.
        gate_TD: None adds the value as it is.
        norm: None for a last block's output, which needs neither norm nor mixes.
        mixes: one to `MOST_MIXES` vectors of D numbers, fp32.
        packed: the sentences; the first token of each has zeros before it.
        dtype: of the mixes returned; int8 and fp8 rows as `ops.rowwise.quantize_rows_reference` makes them.
        scale: of the value.
        sums: also return sums over spans; only in batches that have a table of them, see `spans_of`.
        amax: also return the largest size of an entry of each row's norm.
    """
    tokens, width = h_TD.shape
    spans_N2 = spans_of(packed)
    programs = tokens if spans_N2 is None else len(spans_N2)
    count = len(mixes) if norm is not None else 0
    out_TD = h_TD if value_TD is None else torch.empty_like(h_TD)
    x_MTD = torch.empty(count, tokens, width, dtype=dtype, device=h_TD.device)
    mean_T, rstd_T = torch.empty(2, tokens if count else 0, device=h_TD.device)
    scale_MT = torch.empty(count, tokens, device=h_TD.device) if dtype in LARGEST else None
    sums_ND = torch.empty(programs, width, device=h_TD.device) if sums and spans_N2 is not None else None
    amax_T = torch.empty(tokens, device=h_TD.device) if amax and count else None
    dependent = spans_N2 is None and can_depend(h_TD.device)
    if programs:
        residual_kernel[(programs,)](
            h_TD,
            value_TD,
            gate_TD,
            None if norm is None else norm.weight,
            None if norm is None else norm.bias,
            *(mixes[index] if index < count else None for index in range(MOST_MIXES)),
            packed.first_T,
            spans_N2,
            out_TD,
            x_MTD,
            mean_T,
            rstd_T,
            scale_MT,
            sums_ND,
            amax_T,
            tokens,
            scale,
            0.0 if norm is None else norm.eps,
            width=width,
            block=triton.next_power_of_2(width),
            table=spans_N2 is not None,
            added=value_TD is not None,
            gated=gate_TD is not None,
            count=count,
            summed=sums_ND is not None,
            measured=amax_T is not None,
            quantized=scale_MT is not None,
            largest=LARGEST.get(dtype, 1.0),
            integers=dtype == torch.int8,
            rounding=ROUNDING,
            dependent=dependent,
            num_warps=8 if width > 1024 else 4,
            launch_pdl=dependent,
        )
    return Normed(out_TD, x_MTD, mean_T, rstd_T, scale_MT, sums_ND, amax_T)


def spans_of(packed: Packed) -> Tensor | None:
    """The spans that programs walk over in a large batch; None in a small one."""
    return None if packed.tokens <= ONE_ROW_UP_TO else packed.spans(SPAN_TOKENS)
