"""Each Triton kernel against plain PyTorch in float64, on ragged sentences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv6 import wkv6_reference
from tests.gpu.device import GPU

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 5e-3, torch.float16: 1e-3}
"""Relative error of whole tensors: the rounding of the output, and of TF32 where products use it."""
TIME_MIX = {**TOLERANCE, torch.float32: 3e-5}
"""Exponents of up to 80 are rounded to 4e-6 before their exponentials are multiplied and summed."""
RAGGED = [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 100, 1, 64]
LONG = [*RAGGED, 4096, 1]


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator(GPU).manual_seed(0)


def normal(random: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=random, device=GPU).to(dtype)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape and torch.isfinite(actual).all()
    error = (actual.double() - expected.double()).norm() / expected.double().norm()
    assert error <= tolerance, f"relative error {error:.2e}, allowed {tolerance:.2e}"


def shaken(norm: nn.Module, random: torch.Generator) -> nn.Module:
    """The norm with weights and biases that matter."""
    norm.to(GPU).requires_grad_(False)
    norm.weight.add_(0.3 * normal(random, *norm.weight.shape))
    norm.bias.add_(0.3 * normal(random, *norm.bias.shape))
    return norm


@pytest.mark.parametrize("decay", [-3.0, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("size", [8, 16, 24, 32, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_time_mix_equals_reference(dtype: torch.dtype, size: int, decay: float, random: torch.Generator) -> None:
    """Decays from hardly any to far beyond what the matrix form allows: each chunk chooses its form."""
    lengths = LONG if decay == 1.0 else RAGGED
    assert_time_mix(dtype, 3, size, 24, decay, lengths, random)


@pytest.mark.parametrize("rank", [8, 64, 128])
def test_time_mix_takes_other_ranks(rank: int, random: torch.Generator) -> None:
    assert_time_mix(torch.float32, 2, 64, rank, -1.0, RAGGED, random)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lengths", [RAGGED, LONG], ids=["ragged", "long"])
def test_time_mix_without_a_low_rank_part_equals_one_of_zeros(
    lengths: list[int], dtype: torch.dtype, random: torch.Generator
) -> None:
    from rwkv_sweep.ops.triton.time_mix import time_mix

    packed, width = Packed.of(lengths, GPU), 128
    r, k, v, gate = (normal(random, packed.tokens, width, dtype=dtype) for _ in range(4))
    low, high = normal(random, packed.tokens, 16, dtype=dtype), torch.zeros(16, width, device=GPU, dtype=dtype)
    fixed, u = normal(random, width) - 1, normal(random, 2, 64)
    norm = nn.GroupNorm(2, width, eps=64e-5).to(GPU).requires_grad_(False)
    for states in (True, False):
        expected, expected_state = time_mix(r, k, v, gate, low, high, fixed, u, norm, packed, dtype, states)
        y_TD, state = time_mix(r, k, v, gate, None, None, fixed, u, norm, packed, dtype, states)
        # Each is within TIME_MIX of the exact result.
        assert_close(y_TD, expected, 2 * TIME_MIX[dtype])
        assert (state is None) == (not states)
        if state is not None and expected_state is not None:
            assert_close(state, expected_state, 2 * TIME_MIX[dtype])


def assert_time_mix(
    dtype: torch.dtype, heads: int, size: int, rank: int, decay: float, lengths: list[int], random: torch.Generator
) -> None:
    from rwkv_sweep.ops.triton.time_mix import time_mix

    packed, width = Packed.of(lengths, GPU), heads * size
    r, k, v, gate = (normal(random, packed.tokens, width, dtype=dtype) for _ in range(4))
    low = normal(random, packed.tokens, rank, dtype=dtype)
    high = (normal(random, rank, width) / rank**0.5).to(dtype)
    fixed, u = decay + normal(random, width), normal(random, heads, size)
    norm = shaken(nn.GroupNorm(heads, width, eps=64e-5), random)
    assert isinstance(norm, nn.GroupNorm)
    actual, state = time_mix(r, k, v, gate, low, high, fixed, u, norm, packed, r.dtype, states=True)
    log_w = -torch.exp(fixed.double() + torch.tanh(low.float()).to(dtype).double() @ high.double())
    r64, k64, v64, w64 = (x.double().unflatten(-1, (heads, size)) for x in (r, k, v, log_w))
    y, expected_state = wkv6_reference(r64, k64, v64, w64, u.double(), packed)
    normed = F.group_norm(y.flatten(1), heads, norm.weight.double(), norm.bias.double(), norm.eps)
    assert actual.dtype == dtype
    assert state is not None and state.dtype == torch.float32
    assert_close(state, expected_state, TIME_MIX[dtype])
    assert_close(actual, normed * F.silu(gate.double()), TIME_MIX[dtype])
    assert_close(time_mix(r, k, v, gate, low, high, fixed, u, norm, packed, dtype)[0], actual, TIME_MIX[dtype])


def test_time_mix_is_exact_beside_one_extreme_decay(random: torch.Generator) -> None:
    from rwkv_sweep.ops.triton.time_mix import time_mix

    packed = Packed.of([40], GPU)
    r, k, v, gate = (normal(random, 40, 16) for _ in range(4))
    low, high = torch.zeros(40, 16, device=GPU), torch.zeros(16, 16, device=GPU)
    low[11, 0], high[0, 3] = 20.0, 95.0  # log w = -exp(91), which is below what fp32 can hold
    fixed, u = normal(random, 16) - 4, normal(random, 2, 8)
    norm = nn.GroupNorm(2, 16, eps=64e-5).to(GPU).requires_grad_(False)
    actual, state = time_mix(r, k, v, gate, low, high, fixed, u, norm, packed, r.dtype, states=True)
    log_w = -torch.exp(fixed.double() + torch.tanh(low.double()) @ high.double())
    heads = [x.double().unflatten(-1, (2, 8)) for x in (r, k, v, log_w)]
    y, expected_state = wkv6_reference(*heads, u.double(), packed)
    assert state is not None
    assert_close(state, expected_state, TIME_MIX[torch.float32])
    expected = F.group_norm(y.flatten(1), 2, eps=64e-5) * F.silu(gate.double())
    assert_close(actual, expected, TIME_MIX[torch.float32])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("lengths", [[1], RAGGED, LONG], ids=["one", "ragged", "long"])
@pytest.mark.parametrize("width", [64, 100, 2048])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_add_norm_mix_equals_pytorch(
    dtype: torch.dtype, width: int, lengths: list[int], gated: bool, random: torch.Generator
) -> None:
    """Batches below and above the size from which programs walk over several rows."""
    from rwkv_sweep.ops.triton.residual import add_norm_mix

    packed = Packed.of(lengths, GPU)
    h = 3 * normal(random, packed.tokens, width) + 1
    value, gate = (normal(random, packed.tokens, width, dtype=dtype) for _ in range(2))
    mixes = [normal(random, width) for _ in range(1 + gated)]
    norm = shaken(nn.LayerNorm(width), random)
    assert isinstance(norm, nn.LayerNorm)
    actual = add_norm_mix(h, value, gate if gated else None, norm, mixes, packed, dtype, 4.0 if gated else 1.0)
    added = value.double() * 4 * torch.sigmoid(gate.double()) if gated else value.double()
    stream = h.double() + added
    x = F.layer_norm(stream, (width,), norm.weight.double(), norm.bias.double(), norm.eps)
    expected = torch.stack([x + (packed.shift(x) - x) * mix.double() for mix in mixes])
    assert actual.x_MTD.dtype == dtype and actual.h_TD.dtype == torch.float32
    assert_close(actual.h_TD, stream, 1e-6)
    assert_close(actual.x_MTD, expected, TOLERANCE[dtype])
    assert_close(actual.mean_T, stream.mean(1), 1e-5)
    assert_close(actual.rstd_T, 1 / (stream.var(1, unbiased=False) + norm.eps).sqrt(), 1e-6)


def test_add_norm_mix_without_value_leaves_the_stream_and_without_norm_only_adds(random: torch.Generator) -> None:
    from rwkv_sweep.ops.triton.residual import add_norm_mix

    packed = Packed.of(RAGGED, GPU)
    h, value = normal(random, packed.tokens, 64), normal(random, packed.tokens, 64)
    norm = shaken(nn.LayerNorm(64), random)
    assert isinstance(norm, nn.LayerNorm)
    mix = normal(random, 64)
    first = add_norm_mix(h, None, None, norm, [mix], packed, torch.float32)
    x = norm(h)
    assert first.h_TD is h
    assert_close(first.x_MTD[0], x + (packed.shift(x) - x) * mix, 2e-6)
    last = add_norm_mix(h, value, None, None, [], packed, torch.float32)
    torch.testing.assert_close(last.h_TD, h + value)
    assert last.x_MTD.numel() == 0


@pytest.mark.parametrize(("width", "rank"), [(64, 16), (100, 8), (2048, 32), (256, 64)])
@pytest.mark.parametrize("lengths", [RAGGED, LONG], ids=["ragged", "long"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_token_shift_interpolations_equal_pytorch(
    dtype: torch.dtype, lengths: list[int], width: int, rank: int, random: torch.Generator
) -> None:
    from rwkv_sweep.ops.triton.residual import add_norm_mix
    from rwkv_sweep.ops.triton.token_shift import interpolate_token_shifts

    packed = Packed.of(lengths, GPU)
    norm = shaken(nn.LayerNorm(width), random)
    assert isinstance(norm, nn.LayerNorm)
    fixed = [normal(random, width) for _ in range(5)]
    h = 3 * normal(random, packed.tokens, width) + 1
    normed = add_norm_mix(h, None, None, norm, fixed[:1], packed, dtype)
    low = normal(random, packed.tokens, 5 * rank, dtype=dtype)
    high = (normal(random, 5, rank, width) / rank**0.5).to(dtype)
    actual = interpolate_token_shifts(normed, norm, low, high, fixed, packed)
    x = F.layer_norm(h.double(), (width,), norm.weight.double(), norm.bias.double(), norm.eps)
    moved = torch.tanh(low.float()).to(dtype).double().unflatten(1, (5, rank)).transpose(0, 1) @ high.double()
    mixes = torch.stack(fixed).double()[:, None] + moved
    assert actual.dtype == dtype
    assert_close(actual, x + (packed.shift(x) - x) * mixes, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 224), (129, 7168)])
def test_relu_square_equals_pytorch(dtype: torch.dtype, shape: tuple[int, int], random: torch.Generator) -> None:
    from rwkv_sweep.ops.triton.square import relu_square

    k = 4 * normal(random, *shape, dtype=dtype)
    k[0, 0] = 900.0  # squared beyond fp16's range without the scale
    actual = relu_square(k, dtype, 8.0)
    assert actual.dtype == dtype
    assert_close(actual, (torch.relu(k.double()) / 8) ** 2, TOLERANCE[dtype])
