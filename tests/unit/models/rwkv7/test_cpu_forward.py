"""The Numba kernels of RWKV-7's forward on a CPU against plain PyTorch: the time mix alone, and whole models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.gated import cpu_forward as gated_cpu_forward
from rwkv_sweep.models.rwkv7 import cpu_forward, network
from rwkv_sweep.models.rwkv7.checkpoint import fitted
from rwkv_sweep.models.rwkv7.network import Rwkv7Model
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba import compiling
from rwkv_sweep.ops.numba.wkv7 import Rows, time_mix7
from rwkv_sweep.ops.wkv7 import wkv7_naive
from tests.rwkv7_checkpoints import Sizes, author_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = [1, 2, 70, 1, 64, 33]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Relative error of a layer's output after three blocks; in 16 bits both paths round, each in its own places."""


@pytest.fixture(params=["one thread", "several"])
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kernel is compiled twice, and how much there is to do decides."""
    torch.set_num_threads(2)
    monkeypatch.setattr(compiling, "LITTLE", 0 if request.param == "several" else 10**12)


def distance(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number expected."""
    return float((actual.double() - expected.double()).abs().max() / expected.double().abs().max())


def plain_time_mix(rows: Rows, vectors_6D: Tensor, norm: nn.GroupNorm, packed: Packed) -> tuple[Tensor, Tensor]:
    """As `time_mix7`, in fp64 by the token loop."""
    heads = (norm.num_groups, -1)
    w0, a0, v0, k_k, k_a, r_k = vectors_6D.double()
    r, k, v, gate = (x.double() for x in (rows.r_TD, rows.k_TD, rows.v_TD, rows.gate_TD))
    if rows.first_TD is not None and rows.share_TD is not None:
        v = v + (rows.first_TD.double() - v) * torch.sigmoid(rows.share_TD.double() + v0)
    log_w = -(torch.tensor(-0.5).double().exp()) * torch.sigmoid(rows.decay_TD.double() + w0)
    rate = torch.sigmoid(rows.rate_TD.double() + a0)
    removal = F.normalize((k * k_k).unflatten(-1, heads), dim=-1, eps=1e-12)
    k = k * (1 + (rate - 1) * k_a)
    r, log_w, k, v, rate = (x.unflatten(-1, heads) for x in (r, log_w, k, v, rate))
    y, states = wkv7_naive(r, log_w, k, v, removal, rate, packed)
    y = F.group_norm(y.flatten(1), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    bonus = (r * k * r_k.view(heads)).sum(-1, keepdim=True) * v
    return (y + bonus.flatten(1)) * gate, states


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize(("heads", "size"), [(1, 64), (3, 64), (8, 8), (9, 8), (17, 8), (3, 16), (1, 1), (2, 5)])
@pytest.mark.parametrize("residual", [False, True])
def test_time_mix(heads: int, size: int, residual: bool) -> None:
    packed, width = Packed.of(LENGTHS), heads * size
    random = torch.Generator().manual_seed(0)
    given = list(torch.randn(8, packed.tokens, width, generator=random))
    vectors_6D, (weight_D, bias_D) = torch.randn(6, width, generator=random), torch.randn(2, width, generator=random)
    norm = nn.GroupNorm(heads, width, eps=64e-5).requires_grad_(False)
    norm.weight.data, norm.bias.data = weight_D, bias_D
    rows = Rows(*given) if residual else Rows(*given[:6])
    actual, states = time_mix7(rows, vectors_6D, norm, packed, states=True)
    expected, expected_states = plain_time_mix(rows, vectors_6D, norm, packed)
    assert states is not None and distance(states, expected_states) < 1e-5
    assert distance(actual, expected) < 1e-4
    assert torch.equal(time_mix7(rows, vectors_6D, norm, packed, states=False)[0], actual)


@pytest.mark.usefixtures("variant")
def test_keys_of_zeros_and_logits_far_out_stay_finite() -> None:
    packed = Packed.of([5, 9])
    zeros, far = torch.zeros(14, 64), torch.full((14, 64), 1e4)
    norm = nn.GroupNorm(1, 64, eps=64e-5).requires_grad_(False)
    for sign in (-1, 1):
        rows = Rows(zeros + 1, zeros, zeros + 2, sign * far, sign * far, zeros + 1, zeros, sign * far)
        actual, states = time_mix7(rows, torch.ones(6, 64), norm, packed, states=True)
        assert torch.isfinite(actual).all() and states is not None and torch.equal(states, torch.zeros(2, 1, 64, 64))


def test_empty_batch() -> None:
    norm = nn.GroupNorm(2, 16).requires_grad_(False)
    y_TD, states = time_mix7(Rows(*torch.zeros(6, 0, 16)), torch.zeros(6, 16), norm, Packed.of([]), states=True)
    assert y_TD.shape == (0, 16) and states is not None and states.shape == (0, 2, 8, 8)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", [Sizes(), Sizes(heads=2, head_size=64, wide=256, ranks=(16, 16, 8, 24))])
def test_whole_models(sizes: Sizes, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_cpu_forward, "LITTLE", 0)
    config, weights = fitted(Path("random.pth"), author_checkpoint(sizes), {})
    model = Rwkv7Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype if parameter.dim() == 2 else torch.float32)
    for block in model.blocks:
        block.feed_forward.matmul_dtype = dtype
    packed = Packed.of(LENGTHS)
    ids_T = torch.randint(0, 256, (packed.tokens,), generator=torch.Generator().manual_seed(0))
    actual: dict[object, list[Tensor]] = {}
    for run in (network.run_blocks, cpu_forward.run_blocks):
        kept = actual.setdefault(run, [])
        with torch.inference_mode():
            run(
                model.blocks,
                model.embedded(ids_T),
                packed,
                [0, 1, 2],
                lambda _, h_TD, kept=kept: kept.append(h_TD),
                lambda _, wkv, shift, kept=kept: kept.extend((wkv, shift)),
                lambda _, mean_BD, kept=kept: kept.append(mean_BD),
            )
    plain, compiled = actual.values()
    assert len(plain) == len(compiled) == 12
    for expected, output in zip(plain, compiled, strict=True):
        assert output.dtype == torch.float32 and distance(output, expected) < TOLERANCE[dtype]
