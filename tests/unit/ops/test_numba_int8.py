"""int8 layers on the CPU: the Numba kernels and the layers around them against bitsandbytes and plain PyTorch."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from bitsandbytes.functional import int8_vectorwise_quant
from bitsandbytes.nn.modules import Linear8bitLt
from torch import Tensor, nn

from rwkv_sweep.models.quantization.bitsandbytes_layers import OUTLIER_THRESHOLD, int8_linear, rows_in_int8
from rwkv_sweep.models.quantization.native import int_product
from rwkv_sweep.ops.numba import compiling
from rwkv_sweep.ops.numba.int8 import _rounded_to_half, dequantized, quantize_int8, quantize_llm_int8
from rwkv_sweep.ops.rowwise import quantize_rows_reference
from tests.search_path import search_path
from tests.small_models import CPU

pytestmark = pytest.mark.usefixtures("one_thread", "variant")

SHAPES = [(1, 64), (2, 7), (70, 256), (300, 33), (0, 16)]


@pytest.fixture(params=["one thread", "several"])
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kernel is compiled twice, and how much there is to do decides."""
    torch.set_num_threads(2)
    monkeypatch.setattr(compiling, "LITTLE", 0 if request.param == "several" else sys.maxsize)


def rows(tokens: int, width: int, outliers: int = 0) -> Tensor:
    """Ordinary inputs, a row of zeros, ties between two codes, and entries far above the threshold in a few columns."""
    generator = torch.Generator().manual_seed(tokens * width)
    x_TK = torch.randn(tokens, width, generator=generator)
    if tokens > 2:
        x_TK[1] = 0
        x_TK[2] = torch.arange(width) % 8 / 2
        x_TK[2, 0] = 127 / 16
    for place in range(min(tokens, outliers)):
        x_TK[place, 3 * place % width] = (-1) ** place * (OUTLIER_THRESHOLD + place)
    return x_TK


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_those_of_plain_pytorch(shape: tuple[int, int]) -> None:
    x_TK = rows(*shape)
    q_TK, scale_T = quantize_int8(x_TK)
    expected_TK, expected_T = quantize_rows_reference(x_TK, torch.int8)
    assert torch.equal(q_TK, expected_TK) and torch.equal(scale_T, expected_T)


@pytest.mark.parametrize("outliers", [0, 1, 5])
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_rows_of_llm_int8_are_those_of_bitsandbytes(shape: tuple[int, int], outliers: int) -> None:
    x_TK = rows(*shape, outliers)
    q_TK, amax_T, columns = quantize_llm_int8(x_TK, OUTLIER_THRESHOLD)
    expected_TK, expected_T, expected_columns = int8_vectorwise_quant(x_TK.half(), threshold=OUTLIER_THRESHOLD)
    assert torch.equal(amax_T, expected_T) and torch.equal(columns, expected_columns)
    assert torch.equal(q_TK.index_fill(1, columns, 0), expected_TK)
    assert len(columns) >= min(outliers, shape[0])


def test_fp16_without_instructions_for_it_is_that_of_numpy() -> None:
    """Every fp16 number, the fp32 numbers halfway between two of them and beside those, and any others."""
    half = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    half = np.sort(half[np.isfinite(half)])
    between = half[:-1] + (half[1:] - half[:-1]) / 2
    up, down = np.nextafter(between, np.float32(np.inf)), np.nextafter(between, np.float32(-np.inf))
    others = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    edges = np.array([65519.996, 65520, -65520, np.inf, -np.inf, np.nan], dtype=np.float32)
    x = np.concatenate([half, between, up, down, others, edges])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    for rounded in (all_rounded_to_half_fast, all_rounded_to_half):  # the first decides how the inner one is compiled
        np.testing.assert_array_equal(rounded(x), expected)


@numba.njit(fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def all_rounded_to_half_fast(x: np.ndarray) -> np.ndarray:
    rounded = np.empty_like(x)
    for place in range(len(x)):
        rounded[place] = _rounded_to_half(x[place])
    return rounded


@numba.njit
def all_rounded_to_half(x: np.ndarray) -> np.ndarray:
    rounded = np.empty_like(x)
    for place in range(len(x)):
        rounded[place] = _rounded_to_half(x[place])
    return rounded


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    x_TK, weight_NK = rows(4, 64), rows(32, 64).to(torch.int8)
    x_TK[3, 40] = bad
    q_TK, scale_T = quantize_int8(x_TK)
    out_TN = dequantized(int_product(q_TK, weight_NK), scale_T, torch.ones(32))
    assert torch.isfinite(out_TN[:3]).all() and not torch.isfinite(out_TN[3]).any()
    out_TN = llm_int8(64, 32)(x_TK)
    assert torch.isfinite(out_TN[:3]).all() and not torch.isfinite(out_TN[3]).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_scaled_by_row_and_column(shape: tuple[int, int]) -> None:
    product_TN = (rows(*shape) * 1e5).int()
    scale_T, scale_N = torch.rand(shape[0]), torch.rand(shape[1])
    expected = product_TN.double() * scale_T.double()[:, None] * scale_N.double() * 0.5
    actual_TN = dequantized(product_TN, scale_T, scale_N, 0.5)
    np.testing.assert_allclose(actual_TN.numpy(), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("capability", ["AVX512", "AVX2"])
@pytest.mark.parametrize("outliers", [0, 3])
@pytest.mark.parametrize("tokens", [1, 2, 70])
def test_the_layer_is_that_of_bitsandbytes(
    tokens: int, outliers: int, capability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    layer, x_TK = llm_int8(72, 40), rows(tokens, 72, outliers)
    expected_TN = Linear8bitLt.forward(layer, x_TK)
    actual_TN = layer(x_TK)
    assert actual_TN.dtype == expected_TN.dtype == torch.float32
    # The library's form for CPUs writes 1 / 127**2 as 6.200124e-05, and is 2e-5 above it; that for GPUs is not.
    torch.testing.assert_close(actual_TN, expected_TN, rtol=0, atol=3e-5 * float(expected_TN.abs().max()))
    torch.testing.assert_close(layer(x_TK[None])[0], actual_TN, rtol=0, atol=0)


def test_a_processor_without_fp16_instructions_gives_the_same_rows(repo_root: Path, tmp_path: Path) -> None:
    """In a process of its own: such a processor is chosen before the first kernel is compiled."""
    x_TK = rows(6, 33, 4)
    torch.save(x_TK, tmp_path / "x.pt")
    script = (
        "import sys, torch; from rwkv_sweep.ops.numba.int8 import quantize_llm_int8\n"
        f"torch.save(quantize_llm_int8(torch.load(sys.argv[1]), {OUTLIER_THRESHOLD}), sys.argv[2])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "x.pt"), str(tmp_path / "rows.pt")]
    environment = {**os.environ, "PYTHONPATH": search_path(repo_root), "NUMBA_CPU_NAME": "generic"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    for ours, expected in zip(
        torch.load(tmp_path / "rows.pt"), quantize_llm_int8(x_TK, OUTLIER_THRESHOLD), strict=True
    ):
        assert torch.equal(ours, expected)


def llm_int8(width: int, wide: int) -> nn.Module:
    linear = nn.Linear(width, wide, bias=False)
    linear.weight.data = rows(wide, width) / 10
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return int8_linear("layer", linear, CPU)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e4])
@pytest.mark.parametrize("shape", [(1, 1), (3, 64), (65, 200)])
def test_weights_become_the_librarys_rows(shape: tuple[int, int], scale: float) -> None:
    weight_NK = (torch.randn(shape, generator=torch.Generator().manual_seed(shape[1])).clamp(-2, 2) * scale).half()
    rows_NK, amax_N, _ = rows_in_int8(weight_NK)
    expected_NK, expected_N, _ = int8_vectorwise_quant(weight_NK)
    assert torch.equal(rows_NK, expected_NK) and torch.equal(amax_N, expected_N)
    assert rows_NK.dtype == torch.int8 and amax_N.dtype == torch.float32
