"""What the forwards of RWKV-4, 5 and 6 on a GPU do between the kernels: on a CPU, with plain PyTorch in the place of
each kernel. The kernels themselves are tested on a GPU.

Shapes: T packed tokens, D hidden size, M mixes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rwkv_sweep.models.quantization import weight_only_gpu
from rwkv_sweep.models.rwkv4 import network as network4
from rwkv_sweep.models.rwkv4 import triton_forward as triton4
from rwkv_sweep.models.rwkv5 import network as network5
from rwkv_sweep.models.rwkv5 import triton_forward as triton5
from rwkv_sweep.models.rwkv6 import network as network6
from rwkv_sweep.models.rwkv6 import triton_forward as triton6
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv4 import wkv4_reference
from rwkv_sweep.ops.wkv6 import wkv6_reference
from tests.small_models import encoder_of, random_config, shake

pytestmark = pytest.mark.usefixtures("one_thread")

FORWARDS: dict[int, tuple[Any, Any]] = {4: (network4, triton4), 5: (network5, triton5), 6: (network6, triton6)}
MOST_TOKENS = 20


def add_norm_mix(
    h_TD: Tensor,
    value_TD: Tensor | None,
    gate_TD: Tensor | None,
    norm: Any,
    mixes: Sequence[Tensor],
    packed: Packed,
    dtype: torch.dtype,
    scale: float = 1.0,
    *_: bool,
    **__: bool,
) -> SimpleNamespace:
    if value_TD is not None:
        h_TD = h_TD + value_TD.float() * scale * (1 if gate_TD is None else torch.sigmoid(gate_TD.float()))
    x_MTD = torch.empty(0)
    if norm is not None:
        x_TD = norm(h_TD)
        x_MTD = torch.stack([torch.lerp(x_TD, packed.shift(x_TD), mix.flatten()) for mix in mixes]).to(dtype)
    return SimpleNamespace(h_TD=h_TD, x_MTD=x_MTD, scale_MT=None, sums_ND=None, amax_T=None)


def interpolate_token_shifts(normed: Any, norm: Any, low: Tensor, high: Tensor, fixed: Any, packed: Packed) -> Tensor:
    x_TD = norm(normed.h_TD)
    moved = torch.tanh(low).unflatten(-1, (5, -1)).transpose(0, 1) @ high
    pairs = zip(fixed, moved, strict=True)
    return torch.stack([x_TD + (packed.shift(x_TD) - x_TD) * (mix.flatten() + part) for mix, part in pairs])


def time_mix(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    low: Tensor | None,
    high: Any,
    decay: Tensor,
    u: Tensor,
    norm: Any,
    packed: Packed,
    dtype: torch.dtype,
    states: bool = False,
) -> tuple[Tensor, Tensor | None]:
    log_w = -torch.exp(decay.flatten() + (0 if low is None else torch.tanh(low) @ high)).expand_as(k)
    inputs = (x.unflatten(-1, (len(u), -1)) for x in (r, k, v, log_w))
    y, state = wkv6_reference(*inputs, u, packed)
    return (norm(y.flatten(1)) * F.silu(gate)).to(dtype), state if states else None


def few_tokens_matmul(x: Tensor, weight: Tensor, square_factor: float | None = None) -> Tensor:
    y = torch.bmm(x, weight.transpose(1, 2))
    return y if square_factor is None else (torch.relu(y) * square_factor) ** 2


@pytest.fixture
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: dict[str, dict[str, Any]] = {
        "residual": {"add_norm_mix": add_norm_mix, "SPAN_TOKENS": 16},
        "segment_mean": {"segment_mean": lambda h, at: torch.segment_reduce(h, "mean", offsets=at, axis=0)},
        "square": {"relu_square": lambda k, dtype, scale: ((torch.relu(k) / scale) ** 2).to(dtype)},
        "token_shift": {"interpolate_token_shifts": interpolate_token_shifts},
        "token_shift_fp8": {"interpolate_token_shifts_fp8": None},
        "time_mix": {"time_mix": time_mix},
        "wkv4": {
            "wkv4": lambda r, k, v, decay, u, packed, _: (
                torch.sigmoid(r) * wkv4_reference(k, v, -torch.exp(decay), u, packed)
            )
        },
        "quantized.few_tokens": {"MOST_TOKENS": MOST_TOKENS, "few_tokens_matmul": few_tokens_matmul},
    }
    for name, functions in kernels.items():
        module = ModuleType(name)
        module.__dict__.update(functions)
        monkeypatch.setitem(sys.modules, f"rwkv_sweep.ops.triton.{name}", module)
    monkeypatch.setattr(weight_only_gpu, "few_tokens_stack", lambda weight_GNK: weight_GNK)


@pytest.mark.parametrize("lengths", [[1, 5, 9], [1, 40, 17]], ids=["few tokens", "many tokens"])
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("generation", FORWARDS)
@pytest.mark.usefixtures("plain_kernels")
def test_layers_means_and_states_equal_the_plain_blocks(generation: int, prepared: bool, lengths: list[int]) -> None:
    model: Any = encoder_of(replace(random_config(), generation=generation)).loaded.model
    shake(model, 0.1)
    if prepared:
        model.prepare_for_triton()
    ids_T = torch.randint(256, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    received: list[dict[tuple[str, int], Tensor]] = []
    for module in FORWARDS[generation]:
        handed_over: dict[tuple[str, int], Tensor] = {}

        def on_state(index: int, wkv: Tensor, shift: Tensor, handed_over: Any = handed_over) -> None:
            handed_over["wkv", index], handed_over["shift", index] = wkv, shift

        def on(kind: str, handed_over: Any = handed_over) -> Any:
            return lambda index, vectors: handed_over.__setitem__((kind, index), vectors)

        with torch.inference_mode():
            stream_TD, packed, layers = model.embedded(ids_T), Packed.of(lengths), [0, len(model.blocks) - 1]
            end_TD = module.run_blocks(model.blocks, stream_TD, packed, layers, on("layer"), on_state, on("mean"))
        received.append({**handed_over, ("end", 0): end_TD})
    plain, fused = received
    assert plain.keys() == fused.keys() and (("wkv", 0) in plain) == (generation != 4)
    for key, expected in plain.items():
        error = float((fused[key] - expected).abs().max() / expected.abs().max())
        assert error < 1e-5, (key, error)
