"""The fused forward against the plain PyTorch blocks, whole models at once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.common.channel_mix import GatedChannelMix
from rwkv_sweep.models.rwkv6 import network, triton_forward
from rwkv_sweep.models.rwkv6.network import Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed
from tests.gpu.device import GPU
from tests.small_models import shake, small_model

pytestmark = pytest.mark.gpu

LENGTHS = [1, 2, 26, 17, 300, 5, 64]
MANY = [*LENGTHS, 2048]
"""Above the size from which programs walk over several rows and projections run one by one."""
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Relative error of a layer's output after a few blocks; in 16 bits both paths round, each in its own places."""


def shaken_model(head_size: int, dtype: torch.dtype, hidden: int = 128, **sizes: int) -> Rwkv6Model:
    """A small model on the GPU whose every parameter matters."""
    model = small_model(hidden, head_size=head_size, **sizes)
    shake(model, 0.05)
    for name, parameter in model.named_parameters():
        matrix = sum(size > 1 for size in parameter.shape) > 1 and not name.endswith("time_faaaa")
        parameter.data = parameter.data.to(GPU, dtype if matrix else torch.float32)
    for module in model.modules():
        if isinstance(module, GatedChannelMix):
            module.matmul_dtype = dtype
    return model


def run(
    model: Rwkv6Model, lengths: list[int], layers: list[int], states: bool = False
) -> tuple[dict[int, Tensor], dict[int, tuple[Tensor, Tensor]]]:
    ids = torch.randint(256, (sum(lengths),), generator=torch.Generator().manual_seed(2)).to(GPU)
    outputs: dict[int, Tensor] = {}
    actual: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.inference_mode():
        model(
            ids,
            Packed.of(lengths, GPU),
            layers,
            lambda index, h_TD: outputs.__setitem__(index, h_TD),
            (lambda index, wkv, shift: actual.__setitem__(index, (wkv, shift))) if states else None,
        )
    return outputs, actual


def both(
    model: Rwkv6Model, lengths: list[int], monkeypatch: pytest.MonkeyPatch, layers: list[int], states: bool = False
) -> tuple[tuple[dict, dict], tuple[dict, dict]]:
    """What the fused path and the plain one give; fails if the first was not fused or the second was."""
    ran: list[str] = []
    for module in (triton_forward, network):
        plain = module.run_blocks
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(
            module, "run_blocks", lambda *args, plain=plain, name=name: ran.append(name) or plain(*args)
        )
    ours = run(model, lengths, layers, states)
    with monkeypatch.context() as patch:
        patch.setattr(forward_choice, "why_not", lambda *_: "a reason")
        reference = run(model, lengths, layers, states)
    assert ran == ["triton_forward", "network"]
    return ours, reference


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape and actual.dtype == expected.dtype and torch.isfinite(actual).all()
    error = (actual.double() - expected.double()).norm() / expected.double().norm()
    assert error <= tolerance, f"relative error {error:.2e}, allowed {tolerance:.2e}"


@pytest.mark.parametrize("head_size", [8, 16, 32, 64])
@pytest.mark.parametrize("lengths", [LENGTHS, MANY], ids=["few", "many"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_layers_and_states_equal_the_plain_blocks(
    dtype: torch.dtype, lengths: list[int], head_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shaken_model(head_size, dtype)
    layers = [EMBEDDING, 0, 1, 2, 3]
    ours, reference = both(model, lengths, monkeypatch, layers, states=True)
    assert list(ours[0]) == list(reference[0]) == layers
    for layer in layers:
        assert_close(ours[0][layer], reference[0][layer], TOLERANCE[dtype])
    for layer in range(3):
        for mine, theirs in zip(ours[1][layer], reference[1][layer], strict=True):
            assert_close(mine, theirs, TOLERANCE[dtype])


def test_stacked_projections_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shaken_model(16, torch.float32)
    triton_forward.stack_projections(list(model.blocks))
    ours, reference = both(model, LENGTHS, monkeypatch, [2])
    assert model.blocks[0].attention.stack_4ED is not None
    assert_close(ours[0][2], reference[0][2], TOLERANCE[torch.float32])


class Wrapped(nn.Module):
    """Stands for a quantized layer: no `nn.Linear`, and an output of another dtype and layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = copy.deepcopy(linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).float().t().contiguous().t()


def test_blocks_with_other_linear_layers_equal_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shaken_model(16, torch.bfloat16)
    for block in model.blocks[1:]:
        for half, names in ((block.attention, ("key", "output")), (block.feed_forward, ("key", "value", "receptance"))):
            for name in names:
                setattr(half, name, Wrapped(getattr(half, name)))
    triton_forward.stack_projections(list(model.blocks))
    assert [block.attention.stack_4ED is None for block in model.blocks] == [False, True, True]
    ours, reference = both(model, LENGTHS, monkeypatch, [0, 1, 2])
    for layer in range(3):
        assert_close(ours[0][layer], reference[0][layer], TOLERANCE[torch.bfloat16])


def test_a_sentence_does_not_feel_its_neighbours() -> None:
    model = shaken_model(16, torch.float32)
    ids = torch.randint(256, (sum(MANY),), generator=torch.Generator().manual_seed(3)).to(GPU)
    together: list[Tensor] = []
    with torch.inference_mode():
        model(ids, Packed.of(MANY, GPU), [2], lambda _, h_TD: together.append(h_TD))
        for start, length in zip(Packed.of(MANY).starts_B.tolist(), MANY, strict=True):
            alone: list[Tensor] = []
            part = ids[start : start + length]
            model(part, Packed.of([length], GPU), [2], lambda _, h_TD, alone=alone: alone.append(h_TD))
            assert_close(together[0][start : start + length], alone[0], TOLERANCE[torch.float32])


def test_training_takes_the_plain_blocks() -> None:
    model = shaken_model(16, torch.float32).requires_grad_(True)
    actual: list[Tensor] = []
    ids = torch.arange(20, device=GPU)
    model(ids, Packed.of([20], GPU), [2], lambda _, h_TD: actual.append(h_TD))
    actual[0].square().sum().backward()
    assert model.blocks[0].attention.key.weight.grad is not None
