"""The blocks of an RWKV-6 on a CPU in plain fp32 or bf16, with all that stays the same from forward to forward made
ready once: the weights as the matrix products and as the Numba kernels read them. `cpu_run` runs them.

A sentence of 32 tokens through 12 blocks of 256 is 200 calls, of a few microseconds of arithmetic each; reading
modules, making tensors and their arrays would take as long as all of that. `cpu_forward` runs what this does not:
other precisions, states, vectors from inside of the blocks.

Shapes: T packed tokens, D hidden size, A width of the values, R rank of the mixes; of a matrix product K inputs and N
outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rwkv_sweep.models.rwkv6.blocks import Block
from rwkv_sweep.ops.numba.compiling import NumbaKernel, array_of
from rwkv_sweep.ops.numba.time_mix import scan_kernel

PLAIN_DTYPES = (torch.float32, torch.bfloat16)
TIME_MIX_LINEARS = ("receptance", "key", "value", "gate", "output")
CHANNEL_MIX_LINEARS = ("receptance", "key", "value")


Source = tuple[dict[str, Any], str, Any, int | None]
"""Where a parameter or module was found (a dictionary and a key), itself, and of a parameter its address."""


class Buffer(NamedTuple):
    """A tensor and the array of the same memory (the bits of bf16 as uint16)."""

    tensor: Tensor
    array: Any

    @classmethod
    def of(cls, tensor: Tensor) -> Buffer:
        return cls(tensor, array_of(tensor))

    @classmethod
    def empty(cls, *shape: int, dtype: torch.dtype) -> Buffer:
        return cls.of(torch.empty(*shape, dtype=dtype))


@dataclass(frozen=True, eq=False)
class PreparedBlock:
    """The weights of a block. Tensors and arrays share the memory of the block's parameters, so what changes these in
    place changes them too.

    Attributes:
        sources: what tells that a parameter or a module was replaced.
        hooks: of the linear layers, as the modules keep them; none when this was made.
        matrices: of the linear layers [N, K] by their names, those of the channel mix behind `channel_`, and the
            low-rank factors, transposed to [N, K]: `mix_down`, `decay_down`, `decay_up`.
        mix_up_5RD: the factors of the five mixes.
        norms: weight, bias and epsilon of ln1, ln2 and ln_x.
        share_1D: of the input of the mixes, the share of the token before.
        fixed: five vectors [D], the fixed part of the mixes w, k, v, r and g.
        channel_shares: two vectors [D], of the channel mix.
        decay_A, bonus_A: vectors of the operator.
        scan: the kernel for this size of heads.
    """

    sources: tuple[Source, ...]
    hooks: tuple[Any, ...]
    matrices: dict[str, Tensor]
    mix_up_5RD: Tensor
    norms: tuple[tuple[Any, Any, float], ...]
    share_1D: Any
    fixed: tuple[Any, ...]
    channel_shares: tuple[Any, ...]
    decay_A: Any
    bonus_A: Any
    scan: NumbaKernel

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of a block makes its own."""

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A block is pickled without it."""
        return type(None), ()

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrices."""
        return self.mix_up_5RD.dtype

    def current(self) -> bool:
        """Whether the block still has the parameters that this was made from, and no hooks."""
        if any(self.hooks):
            return False
        for owner, name, item, address in self.sources:  # not all(): this runs in every forward
            if owner[name] is not item or (address is not None and item.data_ptr() != address):
                return False
        return True


def prepare(blocks: Sequence[Block]) -> list[PreparedBlock] | None:
    """The blocks made ready, from the last time where nothing was replaced since; None where one is not plain."""
    ready: list[PreparedBlock] = []
    for block in blocks:
        if block.prepared is None or not block.prepared.current():
            block.prepared = _prepare(block) if _plain(block) else None
        if block.prepared is None:
            return None
        ready.append(block.prepared)
    return ready


def _plain(block: Block) -> bool:
    """Whether all matrices have one dtype, fp32 or bf16, in linear layers that only multiply, and all vectors fp32."""
    mix, wide, linears = block.attention, block.feed_forward, _linears(block)
    if not all(map(_multiplies, linears)):
        return False
    factors = (mix.time_maa_w1, mix.time_maa_w2, mix.time_decay_w1, mix.time_decay_w2)
    matrices = [*factors, *(linear.weight for linear in linears)]
    dtype = mix.time_maa_w1.dtype
    matrix_ids = {id(matrix) for matrix in matrices}
    vectors = [parameter for parameter in block.parameters() if id(parameter) not in matrix_ids]
    return (
        dtype in PLAIN_DTYPES
        and wide.matmul_dtype == dtype
        and all(matrix.dtype == dtype for matrix in matrices)
        and all(vector.dtype == torch.float32 and vector.is_contiguous() for vector in vectors)
    )


def _linears(block: Block) -> list[Any]:
    mix, wide = block.attention, block.feed_forward
    return [getattr(mix, name) for name in TIME_MIX_LINEARS] + [getattr(wide, name) for name in CHANNEL_MIX_LINEARS]


def _multiplies(linear: nn.Module) -> bool:
    """Whether the layer is a product with its weight and nothing else: no class of its own that does more, no bias, no
    hooks."""
    plain = type(linear) is nn.Linear or getattr(type(linear), "only_multiplies", False)
    return plain and getattr(linear, "bias", None) is None and not any(_hooks(linear))


def _hooks(linear: nn.Module) -> list[Any]:
    return [linear._forward_hooks, linear._forward_pre_hooks]


def _prepare(block: Block) -> PreparedBlock:
    mix, wide = block.attention, block.feed_forward
    matrices = {name: getattr(mix, name).weight for name in TIME_MIX_LINEARS}
    matrices |= {f"channel_{name}": getattr(wide, name).weight for name in CHANNEL_MIX_LINEARS}
    factors = {"mix_down": mix.time_maa_w1, "decay_down": mix.time_decay_w1, "decay_up": mix.time_decay_w2}
    matrices |= {name: factor.t() for name, factor in factors.items()}
    fixed = (mix.time_maa_w, mix.time_maa_k, mix.time_maa_v, mix.time_maa_r, mix.time_maa_g)
    return PreparedBlock(
        sources=_sources(block),
        hooks=tuple(hooks for linear in _linears(block) for hooks in _hooks(linear)),
        matrices={name: matrix.detach() for name, matrix in matrices.items()},
        mix_up_5RD=mix.time_maa_w2.detach(),
        norms=tuple(
            (array_of(norm.weight), array_of(norm.bias), float(norm.eps)) for norm in (block.ln1, block.ln2, mix.ln_x)
        ),
        share_1D=array_of(mix.time_maa_x.view(1, -1)),
        fixed=tuple(array_of(vector.view(-1)) for vector in fixed),
        channel_shares=tuple(array_of(vector.view(-1)) for vector in (wide.time_maa_k, wide.time_maa_r)),
        decay_A=array_of(mix.time_decay.view(-1)),
        bonus_A=array_of(mix.time_faaaa.view(-1)),
        scan=scan_kernel(mix.time_faaaa.shape[1]),
    )


def _sources(block: Block) -> tuple[Source, ...]:
    sources: list[Source] = []
    for module in block.modules():
        parts: dict[str, Any] = module._modules
        weights: dict[str, Any] = module._parameters
        sources += [(parts, name, part, None) for name, part in parts.items()]
        sources += [
            (weights, name, weight, weight.data_ptr()) for name, weight in weights.items() if weight is not None
        ]
    return tuple(sources)
