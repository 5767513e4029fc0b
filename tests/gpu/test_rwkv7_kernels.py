"""RWKV-7's Triton kernels against formulas in fp64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv7 import wkv7_naive
from tests.gpu.device import GPU

triton = pytest.importorskip("triton")

from rwkv_sweep.ops.triton.low_rank import PLAIN, SIGMOID, TANH, LowRankFactors, low_rank_products  # noqa: E402
from rwkv_sweep.ops.triton.residual import add_norm_mix  # noqa: E402
from rwkv_sweep.ops.triton.rwkv7.time_mix7 import Rows7, time_mix7  # noqa: E402

pytestmark = pytest.mark.gpu

SHORT, LONG = [1, 2, 16, 17, 31, 32], [1, 16, 17, 257, 33, 64, 65]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1.2e-2, torch.float16: 3e-3}
"""Largest error, relative to the largest number expected, where inputs are exact in the dtype.

A state passes four products one behind another (written = Q K^T, what it reads of the values, times the inverse, and
B^T U), so 2 * 4 factors are rounded on its way. With fractions spread evenly over [1, 2) the mean relative error of a
rounding is ln 2 times its mean absolute one, and all of them may point the same way:

- fp16: factors are TF32's, which keeps 10 bits and drops the rest, 2 ** -11 on average and always towards 0:
  8 * ln 2 * 2 ** -11 = 2.7e-3, and the result is rounded to fp16, by at most 2 ** -12 on average: 2.9e-3.
- bf16: rounded to the nearest of 7 bits, by a quarter of 2 ** -7 on average: 8 * ln 2 * 2 ** -9 = 1.1e-2, and the
  result once more: 1.2e-2.
- fp32: three TF32 products drop 2 ** -21: 8 * ln 2 * 2 ** -21 = 2.6e-6. Sums of up to 28 powers of 2 in a chunk are as
  exact, so their powers are to 28 * ln 2 * 2 ** -21 = 9e-6; decays stand in two factors of a product: 2.1e-5 at most.
"""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(GPU)


def assert_close(result: Tensor, expected: Tensor, tolerance: float) -> None:
    assert result.shape == expected.shape and torch.isfinite(result).all()
    error = float((result.double() - expected.double()).abs().max() / expected.double().abs().max())
    assert error <= tolerance, f"relative error {error:.2e}, allowed {tolerance:.2e}"


def reference(rows: Rows7, vectors_6D: Tensor, norm: nn.GroupNorm, packed: Packed) -> tuple[Tensor, Tensor]:
    """As `time_mix7`, in fp64 by the token loop."""
    heads = (norm.num_groups, -1)
    w0, a0, k_k, k_a, r_k, v0 = vectors_6D.double()
    r, k, v, gate = (x.double() for x in (rows.r_TD, rows.k_TD, rows.v_TD, rows.gate_TD))
    if rows.first_TD is not None and rows.share_TD is not None:
        v = v + (rows.first_TD.double() - v) * torch.sigmoid(rows.share_TD.double() + v0)
    log_w = -math.exp(-0.5) * torch.sigmoid(rows.decay_TD.double() + w0)
    rate = torch.sigmoid(rows.rate_TD.double() + a0)
    removal = F.normalize((k * k_k).unflatten(-1, heads), dim=-1, eps=1e-12)
    k = k * (1 + (rate - 1) * k_a)
    r, log_w, k, v, rate = (x.unflatten(-1, heads) for x in (r, log_w, k, v, rate))
    y, states = wkv7_naive(r, log_w, k, v, removal, rate, packed)
    y = F.group_norm(y.flatten(1), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    bonus = (r * k * r_k.view(heads)).sum(-1, keepdim=True) * v
    return (y + bonus.flatten(1)) * gate, states


def case(
    heads: int, size: int, lengths: list[int], dtype: torch.dtype, residual: bool
) -> tuple[Rows7, Tensor, nn.GroupNorm]:
    width = heads * size
    inputs = normal(8 if residual else 6, sum(lengths), width).to(dtype)
    norm = nn.GroupNorm(heads, width, eps=64e-5).to(GPU).requires_grad_(False)
    norm.weight.data, norm.bias.data = normal(2, width, seed=1)
    return Rows7(*inputs), normal(6, width, seed=2), norm


@pytest.mark.parametrize(
    ("heads", "size", "residual"), [(2, 64, True), (2, 64, False), (5, 16, True), (2, 5, True)], ids=str
)
@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_time_mix(dtype: torch.dtype, lengths: list[int], heads: int, size: int, residual: bool) -> None:
    packed = Packed.of(lengths, GPU)
    rows, vectors_6D, norm = case(heads, size, lengths, dtype, residual)
    y_TD, states = time_mix7(rows, vectors_6D, norm, packed, dtype, states=True)
    expected, expected_states = reference(rows, vectors_6D, norm, packed)
    assert_close(y_TD, expected, TOLERANCE[dtype])
    assert states is not None
    assert_close(states, expected_states, TOLERANCE[dtype])
    alone, none = time_mix7(rows, vectors_6D, norm, packed, dtype, states=False)
    assert none is None
    assert_close(alone, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("length", [1, 16, 17, 32, 33, 257])
def test_equal_keys_that_are_removed_whole(length: int) -> None:
    """The triangular system is then as far from the identity as it can be: learning rate and decay 1, one key."""
    packed = Packed.of([length, length], GPU)
    rows, vectors_6D, norm = case(2, 64, [length, length], torch.float32, False)
    rows.k_TD[:] = rows.k_TD[:1]
    vectors_6D[:2] = torch.tensor([[-30.0], [30.0]], device=GPU)
    y_TD, states = time_mix7(rows, vectors_6D, norm, packed, torch.float32, states=True)
    expected, expected_states = reference(rows, vectors_6D, norm, packed)
    assert_close(y_TD, expected, 1e-4)
    assert states is not None
    assert_close(states, expected_states, 1e-4)
    assert_close(time_mix7(rows, vectors_6D, norm, packed, torch.float32)[0], expected, 1e-4)


def test_keys_of_zeros_and_logits_far_out_stay_finite() -> None:
    packed = Packed.of([5, 9, 40], GPU)
    rows, vectors_6D, norm = case(1, 64, [5, 9, 40], torch.float32, True)
    for far in (-1e4, 1e4):
        rows.k_TD.zero_()
        vectors_6D[:2], vectors_6D[5] = far, far
        y_TD, states = time_mix7(rows, vectors_6D, norm, packed, torch.float32, states=True)
        assert torch.isfinite(y_TD).all() and states is not None and torch.equal(states, torch.zeros_like(states))


@pytest.mark.parametrize("count", [7, 600])
@pytest.mark.parametrize("ranks", [(32, 64, 128), (5, 33, 70, 16)], ids=str)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_low_rank_products(dtype: torch.dtype, ranks: tuple[int, ...], count: int) -> None:
    lengths, width = [1, 17, count], 192
    packed = Packed.of(lengths, GPU)
    x_TD = normal(packed.tokens, width).to(dtype)
    first = [normal(width, rank, seed=rank).to(dtype) * width**-0.5 for rank in ranks]
    high = [normal(rank, width, seed=rank + 1).to(dtype) for rank in ranks]
    mixes, inner = list(torch.rand(len(ranks), width, device=GPU)), [TANH, PLAIN, SIGMOID, PLAIN][: len(ranks)]
    out_GTD = low_rank_products(x_TD, LowRankFactors.of(first, high, mixes, inner), packed)
    activations = {TANH: torch.tanh, SIGMOID: torch.sigmoid, PLAIN: lambda low: low}
    x, before = x_TD.double(), packed.shift(x_TD.double())
    for index, kind in enumerate(inner):
        low = activations[kind]((x + (before - x) * mixes[index].double()) @ first[index].double())
        assert_close(out_GTD[index], low @ high[index].double(), 2 * TOLERANCE[dtype])


@pytest.mark.parametrize("count", [3, 2100])
@pytest.mark.parametrize("mixes", [1, 2, 3, 4])
def test_mixes_behind_the_norm(mixes: int, count: int) -> None:
    packed, width = Packed.of([1, 16, 17, count], GPU), 96
    h_TD, value_TD = normal(2, packed.tokens, width)
    norm = nn.LayerNorm(width).to(GPU).requires_grad_(False)
    norm.weight.data, norm.bias.data = normal(2, width, seed=1)
    vectors = list(normal(mixes, width, seed=2))
    normed = add_norm_mix(h_TD, value_TD, None, norm, vectors, packed, torch.float32)
    x = F.layer_norm((h_TD + value_TD).double(), [width], norm.weight.double(), norm.bias.double(), norm.eps)
    before = packed.shift(x)
    for index, vector in enumerate(vectors):
        assert_close(normed.x_MTD[index], x + (before - x) * vector.double(), 1e-5)
