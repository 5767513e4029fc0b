"""Linear layers over few tokens (a pair of sentences): bound by reading weights, which come in 16, 8 or 4 bits.

Weights are dequantized in registers. Where the tiles of the output are too few for the GPU, the inner dimension is
split among programs, and the last of a tile to finish adds up the parts, always in the same order.

Shapes: G layers of one shape, T tokens, K inputs, N outputs, W words of 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from rwkv_sweep.ops.common.number_formats import LARGEST
from rwkv_sweep.ops.triton.common.dependent_launch import can_depend
from rwkv_sweep.ops.triton.common.launching import on_device_of_input
from rwkv_sweep.ops.triton.quantized.few_bits import FOUR_BITS, INT8, PLAIN, ROWS, SLAB, dequantize_kernel
from rwkv_sweep.ops.triton.quantized.few_tokens_kernels import few_tokens_kernel
from rwkv_sweep.ops.triton.quantized.register_numbers import (
    instructions_of_int8,
    instructions_of_integers,
    instructions_of_table,
)

MOST_TOKENS = 128
"""One tile has all tokens. At 128 that is faster than dequantizing and cuBLAS for every size measured (7168 x 2048 on
an H100: int4 17 us in place of 24, int8 18 and 25, nf4 23.2 and 23.5); above, dequantizing is paid once for a batch."""
COLUMNS = 64
"""Outputs of a tile."""
ENOUGH_PROGRAMS, MOST_SPLITS = 100, 8
"""Fewer programs leave multiprocessors of an H100 (132) idle; more splits cost more in sums than they gain (a pair of
Finch 1B6's shape in int4: 1.82 ms; with 60 programs 1.96, with 200 1.91)."""
ENOUGH_LOOK_UPS = 200
"""The same where numbers come from a table, at more instructions each (nf4: 2.07 ms; with 100 programs 2.18)."""
STAGES, STAGES_OF_ROWS = (4, 3), (6, 4)
"""Slabs on their way from memory at once, with inputs in 16 and in 8 bits, for up to 64 tokens and for more: what fits
into the 99 KiB of shared memory of compute capability 8.6 and 8.9."""
DEQUANTIZED_ROWS = 32
INTEGERS = tuple(float(number) for number in range(16))
"""What the codes of int4 stand for before zero point and scale."""


@dataclass(frozen=True)
class FewTokensWeight:
    """Weights of G layers of one shape as the kernel reads them.

    Attributes:
        weight: [G, N, K] in fp16 or bf16, or in int8 or fp8 where inputs are such rows too, or int16 words: [G, N,
            K / 2] of `packed_int8`, [G, N, K / 4] of `packed_codes`.
        scale: None in 16 bits; [G, N] of any float dtype with int8; with codes [G, K / 64, N], fp32 or `words`, or,
            where nested, places of the table [1, N, K / 64], uint8.
        numbers: of the sixteen codes; None elsewhere.
        nested: (second scales, table [256], offset) of scales that are themselves quantized; None elsewhere.
        count: the kernel's own counters, `counters` zeros; by default made here.
        scale_factor: what scales of int8 are multiplied with in the matmul.
    """

    weight: Tensor
    scale: Tensor | None = None
    numbers: tuple[float, ...] | None = None
    nested: tuple[Tensor, Tensor, float] | None = None
    count: Tensor | None = None
    scale_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.count is None:
            count = torch.zeros(counters(self.weight), dtype=torch.int32, device=self.weight.device)
            object.__setattr__(self, "count", count)

    @property
    def shifted(self) -> bool:
        """Whether a group has a summand beside its factor."""
        return self.scale is not None and self.scale.dtype == torch.int32

    def instructions(self, dtype: torch.dtype) -> str:
        """PTX that makes numbers of the words."""
        if self.numbers == INTEGERS:
            return instructions_of_integers(dtype)
        if self.numbers is not None:
            return instructions_of_table(self.numbers, dtype)
        return instructions_of_int8(dtype) if self.kind == INT8.value else ""

    @property
    def kind(self) -> int:
        if self.numbers is not None:
            return int(FOUR_BITS.value)
        if self.weight.dtype in LARGEST:
            return int(ROWS.value)
        return int((INT8 if self.weight.dtype == torch.int16 else PLAIN).value)


def counters(weight: Tensor) -> int:
    """Counters that the kernel needs for these weights [G, N, ...]: one for each tile."""
    return int(weight.shape[0]) * triton.cdiv(weight.shape[1], COLUMNS)


def words(scale: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    """Scale and -zero * scale, both in `dtype` (16 bits), in the lower and the upper half of an int32."""
    factor, summand = scale.to(dtype), (-zero.float() * scale.float()).to(dtype)
    return summand.view(torch.int16).int() << 16 | factor.view(torch.int16).int() & 0xFFFF


def packed_codes(codes_NK: Tensor) -> Tensor:
    """Codes 0 to 15 [N, K] to words [N, K / 4] of 16 bits as the kernel reads them, K a multiple of 128: word j of each
    128 columns has the codes of columns j, 32 + j, 64 + j and 96 + j, from its lowest bits on."""
    quarters = codes_NK.view(len(codes_NK), -1, 4, SLAB.value // 4).int()
    word = quarters[:, :, 0] | quarters[:, :, 1] << 4 | quarters[:, :, 2] << 8 | quarters[:, :, 3] << 12
    return word.to(torch.int16).flatten(1)


def unpacked_codes(words_NW: Tensor) -> Tensor:
    """The codes [N, K] of `packed_codes`."""
    slabs = words_NW.view(len(words_NW), -1, SLAB.value // 4).int()
    return torch.stack([slabs >> shift & 15 for shift in (0, 4, 8, 12)], 2).flatten(1).to(torch.uint8)


def packed_int8(weight_NK: Tensor) -> Tensor:
    """int8 [N, K] to words [N, K / 2] of 16 bits, K a multiple of 128: word j of each 128 columns has those of column j
    (its low byte) and column 64 + j."""
    halves = weight_NK.view(len(weight_NK), -1, 2, SLAB.value // 2)
    return halves.transpose(2, 3).contiguous().view(torch.int16).flatten(1)


def unpacked_int8(words_NW: Tensor) -> Tensor:
    """The weights [N, K] of `packed_int8`."""
    return words_NW.contiguous().view(torch.int8).view(len(words_NW), -1, SLAB.value // 2, 2).transpose(2, 3).flatten(1)


@on_device_of_input
def few_tokens_matmul(
    x_GTK: Tensor,
    weight: FewTokensWeight,
    square_factor: float | None = None,
    row_scale_GT: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Inputs [G, T, K] in fp16 or bf16, T at most `MOST_TOKENS`, to outputs [G, T, N] in `dtype`, by default theirs.

    Args:
        square_factor: where given, the outputs are (relu(x @ weight.T) * square_factor) ** 2.
        row_scale_GT: of inputs that are rows of int8 or fp8, as the weights are then too; fp32.
    """
    groups, tokens, inner = x_GTK.shape
    outputs = weight.weight.shape[1]
    out_GTN = x_GTK.new_empty(groups, tokens, outputs, dtype=dtype or x_GTK.dtype)
    if not tokens:
        return out_GTN
    rows = max(16, triton.next_power_of_2(tokens))
    tiles = triton.cdiv(outputs, COLUMNS)
    looked_up = weight.numbers is not None and weight.numbers != INTEGERS
    splits = splits_of(groups * tiles, inner, ENOUGH_LOOK_UPS if looked_up else ENOUGH_PROGRAMS)
    sums = torch.int32 if x_GTK.dtype == torch.int8 else torch.float32
    size = groups * tiles * splits * COLUMNS * rows if splits > 1 else 1
    partial = torch.empty(size, dtype=sums, device=x_GTK.device)
    second, table, offset = weight.nested or (None, None, 0.0)
    depends = can_depend(x_GTK.device)
    few_tokens_kernel[(tiles * splits, groups)](
        x_GTK.contiguous(),
        weight.weight,
        weight.scale,
        second,
        table,
        None if row_scale_GT is None else row_scale_GT.contiguous(),
        offset,
        partial,
        weight.count,
        out_GTN,
        tokens,
        1.0 if square_factor is None else square_factor,
        weight.scale_factor,
        inner=inner,
        outputs=outputs,
        rows=rows,
        columns=COLUMNS,
        depth=SLAB.value,
        splits=splits,
        kind=weight.kind,
        instructions=weight.instructions(x_GTK.dtype),
        nested=weight.nested is not None,
        shifted=weight.shifted,
        square=square_factor is not None,
        dependent=depends,
        # The sums of 128 rows are too many registers for four warps.
        num_warps=4 if rows <= 64 else 8,
        num_stages=(STAGES_OF_ROWS if weight.kind == ROWS.value else STAGES)[0 if rows <= 64 else 1],
        launch_pdl=depends,
    )
    return out_GTN


def splits_of(tiles: int, inner: int, enough: int) -> int:
    """Into how many parts K is split: as few as give the GPU `enough` programs, and none without a slab."""
    wanted = triton.next_power_of_2(triton.cdiv(enough, tiles))
    return min(wanted, MOST_SPLITS, triton.cdiv(inner, SLAB.value))


@on_device_of_input
def dequantize(weight: FewTokensWeight, dtype: torch.dtype) -> Tensor:
    """The weights [G, N, K] of codes or int8 in `dtype` (fp16 or bf16), in one pass over memory."""
    groups, outputs, wide = weight.weight.shape
    inner = wide * (2 if weight.kind == INT8.value else 4)
    out_GNK = torch.empty(groups, outputs, inner, dtype=dtype, device=weight.weight.device)
    second, table, offset = weight.nested or (None, None, 0.0)
    dequantize_kernel[(triton.cdiv(outputs, DEQUANTIZED_ROWS), inner // SLAB.value, groups)](
        weight.weight,
        weight.scale,
        second,
        table,
        offset,
        out_GNK,
        inner=inner,
        outputs=outputs,
        rows=DEQUANTIZED_ROWS,
        kind=weight.kind,
        instructions=weight.instructions(dtype),
        nested=weight.nested is not None,
        shifted=weight.shifted,
        num_warps=4,
    )
    return out_GNK
