"""LLM.int8 by our kernels against bitsandbytes' own forward of the same layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rwkv_sweep.models.quantization.bitsandbytes_layers import int8_linear, needs_host
from tests.gpu.device import GPU

kernels = pytest.importorskip("rwkv_sweep.ops.triton.quantized.llm_int8", reason="no Triton", exc_type=ImportError)
FEW, llm_int8_matmul = kernels.FEW, kernels.llm_int8_matmul
pytestmark = pytest.mark.gpu

SHAPES = [(64, 32), (896, 256), (2048, 2048), (7168, 2048)]


def layer_of(inner: int, outer: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return int8_linear("layer", nn.Linear(inner, outer, bias=False), GPU)


def inputs(tokens: int, inner: int, columns: int, dtype: torch.dtype = torch.float16) -> Tensor:
    """Normal numbers below the threshold, and `columns` columns in each of which one entry or several reach it."""
    random = torch.Generator().manual_seed(tokens + inner + columns)
    x_TK = torch.randn(tokens, inner, generator=random).clamp(-5.5, 5.5)
    for column in torch.randperm(inner, generator=random)[:columns].tolist():
        rows = torch.randperm(tokens, generator=random)[: 1 + column % 3]
        x_TK[rows, column] = 6.0 + 30 * torch.rand(len(rows), generator=random)
    return x_TK.to(GPU, dtype)


def distance(out: Tensor, expected: Tensor) -> float:
    return float((out.double() - expected.double()).norm() / expected.double().norm())


def own(layer: nn.Module, x: Tensor) -> Tensor:
    """The library's forward."""
    with torch.no_grad():
        return super(type(layer), layer).forward(x)


@pytest.mark.parametrize("columns", [0, 1, 40, 200])
@pytest.mark.parametrize("tokens", [1, 7, 40, 64, FEW, FEW + 1, 700])
@pytest.mark.parametrize("sizes", SHAPES)
def test_equals_the_library(sizes: tuple[int, int], tokens: int, columns: int) -> None:
    inner, outer = sizes
    layer, x_TK = layer_of(inner, outer), inputs(tokens, inner, min(columns, inner))
    assert type(layer).__name__ == "GpuLinear8bit" and needs_host(layer) is None
    assert distance(layer(x_TK), own(layer, x_TK)) <= 2e-3


def test_weights_may_lie_on_the_gpu_already() -> None:
    linear = nn.Linear(256, 64, bias=False)
    here = int8_linear("layer", linear, GPU)
    there = int8_linear("layer", linear.to(GPU), GPU)
    assert torch.equal(here.state.CB, there.state.CB) and torch.equal(here.state.SCB, there.state.SCB)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("tokens", [30, 300])
def test_other_dtypes_are_rounded_to_fp16_as_in_the_library(tokens: int, dtype: torch.dtype) -> None:
    layer, x_TK = layer_of(896, 256), inputs(tokens, 896, 10, dtype)
    out = layer(x_TK)
    assert out.dtype == dtype and distance(out, own(layer, x_TK)) <= (2e-3 if dtype == torch.float32 else 6e-3)


@pytest.mark.parametrize("tokens", [5, 90, 300])
def test_all_columns_may_be_outliers(tokens: int) -> None:
    layer = layer_of(2048, 512)
    x_TK = 8 + torch.rand(tokens, 2048, generator=torch.Generator().manual_seed(1)).to(GPU, torch.float16)
    assert distance(layer(x_TK), own(layer, x_TK)) <= 2e-3


@pytest.mark.parametrize("tokens", [1, 40, 300])
def test_rows_of_zeros(tokens: int) -> None:
    layer = layer_of(896, 256)
    x_TK = inputs(tokens, 896, 3)
    x_TK[0] = 0
    assert not layer(x_TK)[0].any() and not layer(torch.zeros_like(x_TK)).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("tokens", [40, 300])
def test_what_is_not_finite_does_not_become_a_number(tokens: int, bad: float) -> None:
    x_TK = inputs(tokens, 896, 0)
    x_TK[3, 5] = bad
    finite_T = torch.isfinite(layer_of(896, 256)(x_TK)).all(-1)
    assert not finite_T[3]


@pytest.mark.parametrize("tokens", [33, 400])
def test_several_layers_at_once_equal_each(tokens: int) -> None:
    layers = [layer_of(896, 256, seed) for seed in range(4)]
    x_GTK = torch.stack([inputs(tokens, 896, columns) for columns in (0, 3, 50, 896)])
    weight_GNK = torch.stack([layer.state.CB for layer in layers])
    amax_GN = torch.stack([layer.state.SCB for layer in layers])
    together = llm_int8_matmul(x_GTK, weight_GNK, amax_GN, torch.float16)
    for out, layer, x_TK in zip(together, layers, x_GTK, strict=True):
        assert torch.equal(out, layer(x_TK))


@pytest.mark.parametrize("tokens", [33, 400])
def test_squares_are_those_of_relu(tokens: int) -> None:
    layer = layer_of(896, 256)
    k_TF = 8 * torch.randn(tokens, 896, generator=torch.Generator().manual_seed(2)).to(GPU, torch.float16)
    squares = (torch.relu(k_TF.float()) / 8) ** 2
    assert distance(layer.of_squares(k_TF, 1 / 8, torch.float16), own(layer, squares.half())) <= 2e-3


@pytest.mark.parametrize("tokens", [48, 400])
def test_a_graph_finds_the_outliers_of_what_it_is_given(tokens: int) -> None:
    """Captured with one set of columns, replayed with others."""
    layer = layer_of(896, 256)
    x_TK = inputs(tokens, 896, 2)
    layer(x_TK)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(GPU), torch.cuda.graph(graph):
        out = layer(x_TK)
    for columns in (0, 30, 896):
        x_TK.copy_(inputs(tokens, 896, columns))
        with torch.cuda.device(GPU):
            graph.replay()
        assert distance(out, own(layer, x_TK)) <= 2e-3
