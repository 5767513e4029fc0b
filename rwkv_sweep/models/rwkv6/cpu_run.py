"""One forward of an RWKV-6 through blocks that `cpu_prepared` made ready, on a CPU in plain fp32 or bf16.

Shapes: T packed tokens, D hidden size, A width of the values, R rank of the low-rank products; of a matrix product K
inputs and N outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, hand_over
from rwkv_sweep.models.rwkv6.cpu_prepared import Buffer, PreparedBlock
from rwkv_sweep.ops.common.onednn import matmul_fp32
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba.compiling import array_of, launch
from rwkv_sweep.ops.numba.residual import ADDED, GATED, PLAIN, add_kernel, add_norm_mix_kernel
from rwkv_sweep.ops.numba.square import relu_square_kernel
from rwkv_sweep.ops.numba.token_shift import interpolate_kernel


class Workspace:
    """What lies between the products of one forward, used by all of its blocks. Vectors are gathered anew for each
    block, so that nothing but the parameters holds them."""

    def __init__(self, block: PreparedBlock, packed: Packed) -> None:
        tokens, dtype = packed.tokens, block.dtype
        width_A, width_D = block.matrices["receptance"].shape
        empty = partial(Buffer.empty, dtype=dtype)
        self.first_T, self.cu_seqlens_B1 = array_of(packed.first_T), array_of(packed.cu_seqlens_B1)
        self.none_TD = array_of(torch.empty(0, 0, dtype=dtype))
        self.no_norm_TD = np.empty((0, width_D), np.float32)
        self.no_states = np.empty((0, 1, 1, 1), np.float32)
        self.norm_TD = np.empty((tokens, width_D), np.float32)
        self.middle = Buffer.empty(tokens, width_D, dtype=torch.float32)
        self.mixed_1TD, self.mixed_2TD = empty(1, tokens, width_D), empty(2, tokens, width_D)
        self.moved_5TD, self.y_TA = empty(5, tokens, width_D), empty(tokens, width_A)
        self.mix_inputs = self.moved_5TD.tensor.unbind()
        self.channel_inputs = self.mixed_2TD.tensor.unbind()
        self.fixed_5D, self.shares_2D = np.empty((5, width_D), np.float32), np.empty((2, width_D), np.float32)
        # oneDNN's product makes its own result.
        self.products: dict[str, Buffer] = {}
        if dtype == torch.bfloat16:
            self.products = {name: empty(tokens, len(matrix)) for name, matrix in block.matrices.items()}

    def product(self, block: PreparedBlock, name: str, x_TK: Tensor) -> Buffer:
        """x times the matrix of that name, [T, N]; overwritten by the next product of that name."""
        if name in self.products:
            result = self.products[name]
            torch.mm(x_TK, block.matrices[name].t(), out=result.tensor)
            return result
        return Buffer.of(matmul_fp32(x_TK, block.matrices[name]))


def run_prepared(
    blocks: Sequence[PreparedBlock],
    h_TD: Tensor,
    packed: Packed,
    layers: Collection[int],
    on_layer: OnLayer,
    on_mean: OnMean | None,
) -> Tensor:
    """The residual stream [T, D] through `blocks`, at least one; arguments as `rwkv6.run_blocks`."""
    work, h = Workspace(blocks[0], packed), Buffer.of(h_TD.contiguous())
    value = gate = Buffer(h_TD, work.none_TD)
    for index, block in enumerate(blocks):
        adding = GATED if index else PLAIN
        # A receiver may keep what it is given.
        after = Buffer.empty(*h_TD.shape, dtype=torch.float32) if index else h
        streams = (h.array, value.array, gate.array, adding)
        shares = (block.share_1D, work.first_T, after.array, work.norm_TD, work.mixed_1TD.array)
        launch(add_norm_mix_kernel, work.norm_TD.size, *streams, *block.norms[0], *shares)
        h = after
        if index > 0 and index - 1 in layers:  # not the embedding, whose number is -1
            hand_over(index - 1, h.tensor, packed, on_layer, on_mean)
        added = _time_mix(block, work)
        streams = (h.array, added.array, added.array, ADDED)
        np.concatenate(block.channel_shares, out=work.shares_2D.reshape(-1))
        shares = (work.shares_2D, work.first_T, work.middle.array, work.no_norm_TD, work.mixed_2TD.array)
        launch(add_norm_mix_kernel, work.mixed_2TD.array.size, *streams, *block.norms[1], *shares)
        h = work.middle
        value, gate = _channel_mix(block, work)
    final = Buffer.empty(*h_TD.shape, dtype=torch.float32)
    launch(add_kernel, final.array.size, h.array, value.array, gate.array, final.array)
    if len(blocks) - 1 in layers:
        hand_over(len(blocks) - 1, final.tensor, packed, on_layer, on_mean)
    return final.tensor


def _time_mix(block: PreparedBlock, work: Workspace) -> Buffer:
    """What the half-block adds to the stream, [T, D]."""
    low_TR = work.product(block, "mix_down", work.mixed_1TD.tensor[0]).tensor.tanh_()
    torch.bmm(low_TR.view(len(low_TR), 5, -1).transpose(0, 1), block.mix_up_5RD, out=work.moved_5TD.tensor)
    np.concatenate(block.fixed, out=work.fixed_5D.reshape(-1))
    moved_5TD = work.moved_5TD.array
    launch(interpolate_kernel, moved_5TD.size, moved_5TD, work.fixed_5D, work.norm_TD, work.first_T)
    xw, xk, xv, xr, xg = work.mix_inputs
    low_TR = work.product(block, "decay_down", xw).tensor.tanh_()
    rows = (("receptance", xr), ("key", xk), ("value", xv), ("gate", xg), ("decay_up", low_TR))
    inputs = [work.product(block, name, x).array for name, x in rows]
    vectors = (block.decay_A, block.bonus_A, *block.norms[2])
    launch(block.scan, work.y_TA.array.size, *inputs, *vectors, work.cu_seqlens_B1, work.y_TA.array, work.no_states)
    return work.product(block, "output", work.y_TA.tensor)


def _channel_mix(block: PreparedBlock, work: Workspace) -> tuple[Buffer, Buffer]:
    """Value and its gate before the sigmoid, [T, D]."""
    xk, xr = work.channel_inputs
    key = work.product(block, "channel_key", xk)
    key_N = key.array.reshape(-1)
    launch(relu_square_kernel, key_N.size, key_N)
    value = work.product(block, "channel_value", key.tensor)
    return value, work.product(block, "channel_receptance", xr)
