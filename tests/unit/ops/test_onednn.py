"""fp32 products of the CPU by oneDNN."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from rwkv_sweep.ops.common import onednn

ROUNDINGS = 8
"""In units of the rounding of fp32 times the sum of the sizes of the products, of which there are 300."""
MANY_SHAPES = """
import psutil, torch
from rwkv_sweep.ops.common.onednn import matmul_fp32
process, weight_NK = psutil.Process(), torch.randn(256, 256)
matmul_fp32(torch.randn(1, 256), weight_NK)
before = process.memory_info().rss
for tokens in range(2, 302):
    matmul_fp32(torch.randn(tokens, 256), weight_NK)
print((process.memory_info().rss - before) / 2**20)
"""


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("wide", [40, 256, 1024])
@pytest.mark.parametrize("tokens", [0, 1, 7, 300])
def test_product(tokens: int, wide: int, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x_TK, weight_NK = torch.randn(tokens, 300), torch.randn(wide, 300)
    exact_TN = x_TK.double() @ weight_NK.double().T
    bound_TN = ROUNDINGS * torch.finfo(torch.float32).eps * x_TK.double().abs() @ weight_NK.double().abs().T
    monkeypatch.setattr(onednn, "uses_onednn", lambda: there)
    for weight in (weight_NK, onednn.laid_out(weight_NK)):
        assert torch.equal(weight, weight_NK)
        actual_TN = onednn.matmul_fp32(x_TK, weight)
        assert actual_TN.shape == exact_TN.shape and actual_TN.dtype == torch.float32
        assert ((actual_TN - exact_TN).abs() <= bound_TN).all()


@pytest.mark.parametrize(
    ("vendor", "mkl", "there", "expected"),
    [
        ("AuthenticAMD", True, True, True),
        ("GenuineIntel", True, True, False),
        ("GenuineIntel", False, True, True),
        ("", True, True, True),
        ("AuthenticAMD", True, False, False),
    ],
)
def test_the_faster_library_of_a_processor(
    vendor: str, mkl: bool, there: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "available", lambda: there)
    monkeypatch.setattr(onednn, "vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    assert onednn.uses_onednn.__wrapped__() is expected


def test_rows_a_page_apart_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "uses_onednn", lambda: True)
    assert onednn.laid_out(torch.zeros(256, 300)).stride() == (1, 256)
    assert onednn.laid_out(torch.zeros(2048, 300)).stride() == (300, 1)


def test_memory_does_not_grow_with_the_number_of_shapes() -> None:
    # Without what importing the module has set here, so that it must set it there, and in time.
    environment = {name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name}
    done = subprocess.run(
        [sys.executable, "-c", MANY_SHAPES], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 60  # 150 where all of them are kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_no_nan_is_lost(dtype: torch.dtype) -> None:
    weight_NK = onednn.laid_out(torch.randn(64, 32).to(dtype)).float()
    x_TK = torch.randn(3, 32)
    x_TK[1, 5] = torch.nan
    assert torch.isnan(onednn.matmul_fp32(x_TK, weight_NK)).any(dim=1).tolist() == [False, True, False]
