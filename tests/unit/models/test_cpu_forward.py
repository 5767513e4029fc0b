"""The Numba kernels of the CPU's forward against plain PyTorch: each of them, and whole models."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.common.channel_mix import GatedChannelMix
from rwkv_sweep.models.common.layer_handover import sentence_means
from rwkv_sweep.models.gated import cpu_forward as gated_cpu_forward
from rwkv_sweep.models.rwkv6 import cpu_prepared
from rwkv_sweep.models.rwkv6.blocks import Block
from rwkv_sweep.models.rwkv6.initialization import initialize
from rwkv_sweep.models.rwkv6.network import Rwkv6Config, Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba import compiling
from rwkv_sweep.ops.numba.residual import add, add_norm_mix
from rwkv_sweep.ops.numba.square import relu_square_
from rwkv_sweep.ops.numba.time_mix import time_mix
from rwkv_sweep.ops.numba.token_shift import interpolate_token_shifts_
from rwkv_sweep.ops.wkv6 import wkv6_reference

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = [1, 2, 70, 1, 64, 33, 128]
WIDTH = 72
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Relative error of a layer's output after three blocks; in 16 bits both paths round, each in its own places."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer_norm(width: int = WIDTH) -> nn.LayerNorm:
    norm = nn.LayerNorm(width)
    norm.weight.data, norm.bias.data = normal(width, seed=1), normal(width, seed=2)
    return norm.requires_grad_(False)


@pytest.fixture(params=["one thread", "several"])
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kernel is compiled twice, and how much there is to do decides."""
    torch.set_num_threads(2)
    monkeypatch.setattr(compiling, "LITTLE", 0 if request.param == "several" else 10**12)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("adding", ["nothing", "value", "gated value"])
@pytest.mark.parametrize("lengths", [LENGTHS, [1], [200], []])
def test_residual_norm_shift_and_mixes(lengths: list[int], adding: str) -> None:
    packed, norm = Packed.of(lengths), layer_norm()
    h, value, gate, *mixes = normal(5, sum(lengths), WIDTH)
    value_TD = None if adding == "nothing" else value
    gate_TD = gate if adding == "gated value" else None
    mixes = [mix[:1].clone() if len(mix) else torch.zeros(1, WIDTH) for mix in mixes]
    actual = add_norm_mix(h, value_TD, gate_TD, norm, mixes, packed, keep_norm=True)
    expected = h if value_TD is None else h + value * (1 if gate_TD is None else torch.sigmoid(gate))
    x_TD = norm(expected)
    before_TD = packed.shift(x_TD) if lengths else x_TD
    torch.testing.assert_close(actual.h_TD, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(actual.x_TD, x_TD, rtol=1e-5, atol=1e-5)
    for mixed_TD, mix in zip(actual.mixed_MTD, mixes, strict=True):
        torch.testing.assert_close(mixed_TD, x_TD + (before_TD - x_TD) * mix, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("variant")
def test_gated_sum() -> None:
    h, value, gate = normal(3, 50, WIDTH)
    torch.testing.assert_close(add(h, value, 30 * gate), h + value * torch.sigmoid(30 * gate), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("variant")
def test_means_of_sentences() -> None:
    packed = Packed.of(LENGTHS)
    h_TD = 3 + normal(packed.tokens, WIDTH)
    expected = torch.stack([part.double().mean(0) for part in h_TD.split(LENGTHS)])
    torch.testing.assert_close(sentence_means(h_TD, packed.cu_seqlens_B1).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("variant")
def test_token_shift_interpolations() -> None:
    packed = Packed.of(LENGTHS)
    x_TD, moved_5TD, fixed_5D = normal(packed.tokens, WIDTH), normal(5, packed.tokens, WIDTH, seed=1), normal(5, WIDTH)
    delta_TD = packed.shift(x_TD) - x_TD
    expected = x_TD + delta_TD * (fixed_5D[:, None] + moved_5TD)
    torch.testing.assert_close(interpolate_token_shifts_(moved_5TD.clone(), fixed_5D, x_TD, packed), expected)


@pytest.mark.usefixtures("variant")
def test_squared_relu() -> None:
    k_TF = normal(300, 200)
    torch.testing.assert_close(relu_square_(k_TF.clone()), torch.relu(k_TF) ** 2)
    # Every number of bf16, infinities and NaN among them, to the last bit.
    k_N = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    expected_N = (torch.relu(k_N).float() ** 2).to(torch.bfloat16)
    torch.testing.assert_close(relu_square_(k_N.clone()), expected_N, rtol=0, atol=0, equal_nan=True)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("strength", [-9.0, 0.0, 3.0, 6.0])
@pytest.mark.parametrize(("heads", "size"), [(3, 8), (9, 8), (2, 16), (5, 24), (3, 32), (2, 64), (1, 80)])
def test_operator_with_decays_norm_and_gate(heads: int, size: int, strength: float) -> None:
    """Numbers of heads that fill the last piece of work and that do not; decays from almost none to all at once."""
    packed, width = Packed.of(LENGTHS), heads * size
    r, k, v, gate, decay = normal(5, packed.tokens, width)
    u_HK, decay_D = normal(heads, size, seed=1), normal(width, seed=2) + strength
    norm = nn.GroupNorm(heads, width, eps=64e-5).requires_grad_(False)
    norm.weight.data, norm.bias.data = normal(width, seed=3), normal(width, seed=4)
    y_TD, states = time_mix(r, k, v, gate, decay, decay_D, u_HK, norm, packed, states=True)
    log_w = -torch.exp((decay + decay_D).double())
    by_head = [x.double().unflatten(1, (heads, size)) for x in (r, k, v, log_w)]
    wkv_THV, expected_states = wkv6_reference(*by_head, u_HK.double(), packed)
    normed = F.group_norm(wkv_THV.flatten(1), heads, norm.weight.double(), norm.bias.double(), norm.eps)
    expected = normed * F.silu(gate.double())
    assert (y_TD - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert states is not None
    torch.testing.assert_close(states.double(), expected_states, rtol=1e-5, atol=1e-5)
    assert time_mix(r, k, v, gate, decay, decay_D, u_HK, norm, packed, states=False)[1] is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_does_not_become_a_number(bad: float) -> None:
    packed, norm = Packed.of([4]), nn.GroupNorm(1, 8).requires_grad_(False)
    rows = normal(5, 4, 8)
    for which in range(5):
        broken = rows.clone()
        broken[which, 1, 3] = bad
        y_TD, _ = time_mix(*broken, torch.zeros(8), torch.ones(1, 8), norm, packed, states=False)
        known = (which == 4 and bad != bad) or which < 4
        assert not (known and torch.isfinite(y_TD[1:]).all()), "an infinite decay alone is a number"
    for which in range(3):
        broken = normal(3, 4, 8)
        broken[which, 1, 3] = bad
        actual = add_norm_mix(broken[0], broken[1], broken[2], layer_norm(8), [torch.ones(8)], packed, keep_norm=True)
        assert (which == 2 and bad == bad) or not torch.isfinite(actual.x_TD[1]).any(), "an infinite gate is a number"


def shaken_model(head_size: int, dtype: torch.dtype) -> Rwkv6Model:
    """A small model whose every parameter matters."""
    model = Rwkv6Model(Rwkv6Config(256, 128, 3, head_size=head_size)).eval()
    initialize(model, seed=0, zero_outputs=False)
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        parameter.requires_grad_(False).add_(0.05 * normal(*parameter.shape, seed=seed))
        matrix = sum(size > 1 for size in parameter.shape) > 1 and not name.endswith("time_faaaa")
        parameter.data = parameter.data.to(dtype if matrix else torch.float32)
    for module in model.modules():
        if isinstance(module, GatedChannelMix):
            module.matmul_dtype = dtype
    return model


def outputs(model: Rwkv6Model, layers: list[int], states: bool) -> dict[Any, Tensor]:
    """All that a forward hands over, by layer and kind."""
    packed, actual = Packed.of(LENGTHS), {}
    ids_T = torch.randint(256, (packed.tokens,), generator=torch.Generator().manual_seed(2))

    def keep_state(layer: int, wkv_BHKV: Tensor, shift_B2D: Tensor) -> None:
        actual[layer, "wkv"], actual[layer, "shift"] = wkv_BHKV, shift_B2D

    def keep(layer: int, h_TD: Tensor) -> None:
        assert (layer, "tokens") not in actual, "handed over twice"
        actual[layer, "tokens"] = h_TD

    def keep_mean(layer: int, mean_BD: Tensor) -> None:
        actual[layer, "mean"] = mean_BD

    with torch.inference_mode():
        model(ids_T, packed, layers, keep, keep_state if states else None, keep_mean)
    return actual


@pytest.mark.parametrize("layers", [[-1, 0, 1, 2, 3], [1], [2], [-1]])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("head_size", [8, 64])
def test_whole_models_give_what_plain_blocks_give(
    head_size: int, dtype: torch.dtype, layers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shaken_model(head_size, dtype)
    assert forward_choice.why_not(model.blocks, torch.zeros(1), 64) is None
    ours = outputs(model, layers, states=True)
    assert (cpu_prepared.prepare(model.blocks) is None) == (dtype == torch.float16)
    prepared = outputs(model, layers, states=False)
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    plain = outputs(model, layers, states=True)
    assert list(ours) == list(plain) and {layer for layer, _ in ours} == set(layers)
    for key, expected in plain.items():
        for actual in [ours[key], *([prepared[key]] if key in prepared else [])]:
            error = (actual - expected).norm() / expected.norm()
            assert error <= TOLERANCE[dtype], (key, float(error))
    assert set(prepared) == {key for key in plain if key[1] in ("tokens", "mean")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prepared_blocks_follow_their_parameters(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a parameter changes in place, is elsewhere, or is another one in another module."""
    model = shaken_model(8, dtype)
    before = outputs(model, [2], states=False)[2, "tokens"]
    block = model.blocks[1]
    ready = cpu_prepared.prepare(model.blocks)
    again = cpu_prepared.prepare(model.blocks)
    assert ready is not None and again is not None and all(map(operator.is_, ready, again))
    assert copy.deepcopy(block).prepared is None and pickle.loads(pickle.dumps(ready[0])) is None

    def in_place() -> None:
        block.attention.time_maa_k.data.add_(0.5)
        block.feed_forward.value.weight.data.mul_(1.5)

    def elsewhere() -> None:
        block.attention.time_maa_w.data = block.attention.time_maa_w.data + 0.5
        block.attention.key.weight.data = block.attention.key.weight.data * 1.5

    def another() -> None:
        linear = nn.Linear(128, 128, bias=False, dtype=dtype).requires_grad_(False)
        linear.weight.data = block.attention.gate.weight.data * 1.5
        block.attention.gate = linear
        block.ln2.weight = nn.Parameter(block.ln2.weight.data * 0.5, requires_grad=False)

    for change in (in_place, elsewhere, another):
        change()
        after = outputs(model, [2], states=False)[2, "tokens"]
        assert (after - before).abs().max() > 10 * TOLERANCE[dtype]
        with monkeypatch.context() as patch:
            patch.setattr(forward_choice, "why_not", lambda *_: "compared")
            expected = outputs(model, [2], states=False)[2, "tokens"]
        assert (after - expected).norm() <= TOLERANCE[dtype] * expected.norm()
        before = after


def test_what_a_prepared_block_leaves_to_the_modules() -> None:
    """Layers that do more than multiply, dtypes that are mixed, and vectors that are not fp32."""

    class Other(nn.Linear):
        """A layer of a quantized precision."""

    def other(block: Block) -> None:
        block.attention.output = Other(128, 128, bias=False)

    def hooked(block: Block) -> None:
        block.feed_forward.key.register_forward_hook(lambda *_: None)

    def with_bias(block: Block) -> None:
        block.attention.value = nn.Linear(128, 128)

    def mixed(block: Block) -> None:
        block.attention.time_decay_w1.data = block.attention.time_decay_w1.data.bfloat16()

    def short_vector(block: Block) -> None:
        block.attention.time_faaaa.data = block.attention.time_faaaa.data.bfloat16()

    for change in (other, hooked, with_bias, mixed, short_vector):
        model = shaken_model(8, torch.float32)
        assert cpu_prepared.prepare(model.blocks) is not None
        change(model.blocks[2])
        assert cpu_prepared.prepare(model.blocks) is None


def test_training_takes_the_plain_blocks() -> None:
    model = shaken_model(8, torch.float32).requires_grad_(True)
    assert forward_choice.why_not(model.blocks, torch.zeros(1), 64) == "training"
    packed, actual = Packed.of([3, 2]), []
    model(torch.arange(5), packed, [2], lambda _, h_TD: actual.append(h_TD))
    actual[0].sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "ln_out" not in name)


@pytest.mark.parametrize(("little", "expected"), [(0, 2), (10**12, 1)])
def test_few_tokens_take_one_thread(little: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(gated_cpu_forward, "LITTLE", little)
    model = Rwkv6Model(Rwkv6Config(64, 64, 2, head_size=32)).eval()
    initialize(model, seed=0, zero_outputs=False)
    seen: list[int] = []
    with torch.inference_mode():
        model(torch.arange(9), Packed.of([4, 5]), [0, 1], lambda *_: seen.append(torch.get_num_threads()))
        assert seen == [expected, expected] and torch.get_num_threads() == 2

        def fail(*_: object) -> None:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            model(torch.arange(9), Packed.of([4, 5]), [0], fail)
    assert torch.get_num_threads() == 2
