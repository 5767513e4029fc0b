"""Weights in few bits on a GPU: the kernels of few tokens against dequantized weights in fp64, and whole layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rwkv_sweep.models.quantization.bitsandbytes_layers import FourBitLinear
from rwkv_sweep.models.quantization.weight_only import weight_only_linear
from tests.gpu.device import GPU

kernels = pytest.importorskip("rwkv_sweep.ops.triton.quantized.few_tokens", reason="no Triton", exc_type=ImportError)
from rwkv_sweep.models.quantization.weight_only_gpu import PackedLinear, packed, stacked_weights  # noqa: E402

MOST = kernels.MOST_TOKENS
pytestmark = pytest.mark.gpu

KINDS = ["int4", "int8_weight", "nf4", "fp4", "nf4 nested"]
DTYPES = [torch.bfloat16, torch.float16]
SHAPES = [(2048, 2048), (2048, 7168), (7168, 2048), (384, 200), (128, 16), (896, 256)]
"""Inputs and outputs: those of Finch 1B6, and some that are no multiple of a tile."""
TOLERANCE = {torch.bfloat16: 8e-3, torch.float16: 1.5e-3}
"""Of the norm: weights and outputs are each rounded to 8 or 11 bits, 2**-9 or 2**-12 of their size, and squared."""


def original(kind: str, inner: int, outer: int, dtype: torch.dtype, seed: int = 0) -> nn.Module:
    """The layer as it is quantized, before it is packed."""
    torch.manual_seed(seed)
    linear = nn.Linear(inner, outer, bias=False)
    if kind in ("int4", "int8_weight"):
        return weight_only_linear("layer", linear, kind, dtype, GPU)
    return FourBitLinear(linear, kind.split()[0], "nested" in kind, dtype, GPU)


def inputs(tokens: int, inner: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(tokens, inner, generator=torch.Generator().manual_seed(tokens)).to(GPU, dtype)


def distance(out: Tensor, expected: Tensor) -> float:
    return float((out.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SHAPES)
def test_packed_weights_are_those_of_the_layer(sizes: tuple[int, int], kind: str, dtype: torch.dtype) -> None:
    """For nf4 and fp4 those are bitsandbytes' own."""
    layer = original(kind, *sizes, dtype)
    there = packed(layer)
    assert isinstance(there, PackedLinear)
    assert distance(there.dequantized(), layer.dequantized()) <= TOLERANCE[dtype]
    assert sum(part.nbytes for part in there.buffers()) <= 1.02 * layer_bytes(layer) + 2048


def layer_bytes(layer: nn.Module) -> int:
    from rwkv_sweep.models.quantization.audit import layer_bytes

    return layer_bytes(layer)


@pytest.mark.parametrize("tokens", [1, 2, 17, 50, MOST, MOST + 1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SHAPES)
def test_outputs(sizes: tuple[int, int], kind: str, tokens: int) -> None:
    layer, x_TK = original(kind, *sizes, torch.bfloat16), inputs(tokens, sizes[0], torch.bfloat16)
    expected_TN = x_TK.double() @ layer.dequantized().double().T
    assert distance(packed(layer)(x_TK), expected_TN) <= TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_in_fp16(kind: str) -> None:
    layer, x_TK = original(kind, 896, 256, torch.float16), inputs(50, 896, torch.float16)
    expected_TN = x_TK.double() @ layer.dequantized().double().T
    assert distance(packed(layer)(x_TK), expected_TN) <= TOLERANCE[torch.float16]


@pytest.mark.parametrize("kind", ["int4", "int8_weight", "nf4"])
@pytest.mark.parametrize("tokens", [40, MOST])
def test_several_layers_at_once_equal_each(kind: str, tokens: int) -> None:
    layers = [packed(original(kind, 384, 200, torch.bfloat16, seed)) for seed in range(4)]
    x_GTK = torch.stack([inputs(tokens + index, 384, torch.bfloat16)[:tokens] for index in range(4)])
    separate = [layer(x_TK) for layer, x_TK in zip(layers, x_GTK, strict=True)]
    together = kernels.few_tokens_matmul(x_GTK, stacked_weights(layers))
    for out, alone, layer, x_TK in zip(together, separate, layers, x_GTK, strict=True):
        assert distance(out, alone) <= 4e-3 and torch.equal(layer(x_TK), alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_weights_and_squares(dtype: torch.dtype) -> None:
    weight_GNK = (0.05 * torch.randn(1, 448, 256, generator=torch.Generator().manual_seed(0))).to(GPU, dtype)
    x_GTK = inputs(48, 256, dtype)[None]
    out = kernels.few_tokens_matmul(x_GTK, kernels.FewTokensWeight(weight_GNK), 0.125)
    expected = (torch.relu(x_GTK.double() @ weight_GNK.double().transpose(1, 2)) * 0.125) ** 2
    assert distance(out, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_every_time_and_from_a_graph(kind: str) -> None:
    """Parts of a sum are added in one order, whichever program ends last; and a graph reads what it is given."""
    layer = packed(original(kind, 2048, 256, torch.bfloat16))
    x_TK = inputs(48, 2048, torch.bfloat16)
    first = layer(x_TK)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(GPU), torch.cuda.graph(graph):
        out = layer(x_TK)
    for seed in range(5):
        x_TK.copy_(inputs(48 + seed, 2048, torch.bfloat16)[:48])
        with torch.cuda.device(GPU):
            graph.replay()
        assert torch.equal(out, layer(x_TK))
    x_TK.copy_(inputs(48, 2048, torch.bfloat16))
    assert torch.equal(layer(x_TK), first)


@pytest.mark.parametrize("kind", ["int4", "nf4"])
def test_what_is_not_finite_does_not_become_a_number(kind: str) -> None:
    x_TK = inputs(40, 896, torch.bfloat16)
    x_TK[3, 5] = float("nan")
    finite_T = torch.isfinite(packed(original(kind, 896, 256, torch.bfloat16))(x_TK)).all(-1)
    assert not finite_T[3] and finite_T[:3].all() and finite_T[4:].all()


def test_widths_that_do_not_fit_stay_with_the_layer() -> None:
    layer = original("int4", 192, 64, torch.bfloat16)
    assert packed(layer) is layer
