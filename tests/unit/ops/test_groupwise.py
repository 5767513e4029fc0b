"""Weights in 4 and 8 bits: packing, rounding and dequantization against their definition in NumPy."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from rwkv_sweep.ops.common import groupwise
from rwkv_sweep.ops.common.groupwise import GROUP
from rwkv_sweep.ops.numba import compiling
from rwkv_sweep.ops.numba.weight_only import int4_to_bf16, int8_to_bf16

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(1, 64), (5, 128), (3, 100), (7, 1), (2, 65), (300, 192)]


def weights(rows: int, width: int) -> Tensor:
    """Ordinary weights; rows of zeros, of one value far from 0, of one sign, and with one huge entry."""
    weight_NK = torch.randn(rows, width, generator=torch.Generator().manual_seed(rows * width))
    for row, change in enumerate((lambda w: w * 0, lambda w: w * 0 + 5, torch.abs, lambda w: w * 1e-3)):
        if row + 1 < rows:
            weight_NK[row + 1] = change(weight_NK[row + 1])
    weight_NK[0, width // 2] = 300.0
    return weight_NK


def int4_in_numpy(q_NB: np.ndarray, scale_NG: np.ndarray, zero_NG: np.ndarray, width: int) -> np.ndarray:
    """w = (q - zero) * scale, one weight after another."""
    out = np.empty((len(q_NB), width))
    for n, k in np.ndindex(*out.shape):
        byte = int(q_NB[n, k // 2])
        code = byte // 16 if k % 2 else byte % 16
        out[n, k] = (code - float(zero_NG[n, k // 64])) * float(scale_NG[n, k // 64])
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_is_its_definition(shape: tuple[int, int]) -> None:
    codes = groupwise.quantize_int4(weights(*shape))
    q_NB = groupwise.pack(codes.q_NW)
    groups = -(-shape[1] // GROUP)
    assert q_NB.dtype == torch.uint8 and q_NB.shape == (shape[0], 32 * groups)
    assert codes.scale_NG.dtype == codes.zero_NG.dtype == torch.float16
    assert codes.scale_NG.shape == codes.zero_NG.shape == (shape[0], groups)
    assert torch.equal(groupwise.unpack(q_NB), codes.q_NW)
    actual = groupwise.dequantize_int4(q_NB, codes.scale_NG, codes.zero_NG, shape[1])
    expected = int4_in_numpy(q_NB.numpy(), codes.scale_NG.numpy(), codes.zero_NG.numpy(), shape[1])
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_is_within_half_a_step_of_the_weight(shape: tuple[int, int]) -> None:
    weight_NK = weights(*shape)
    codes = groupwise.quantize_int4(weight_NK)
    restored = groupwise.dequantize_codes(codes)[:, : shape[1]]
    step_NK = codes.scale_NG.float().repeat_interleave(GROUP, 1)[:, : shape[1]]
    # The ends of a range are met up to the rounding of scale and zero to fp16: 15 steps times 2^-11, twice.
    assert ((restored - weight_NK).abs() <= step_NK * (0.5 + 2 * 15 / 2**11)).all()
    assert (restored[weight_NK.abs().amax(1) == 0] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_within_half_a_step_of_the_weight(shape: tuple[int, int]) -> None:
    weight_NK = weights(*shape)
    q_NK, scale_N = groupwise.quantize_int8_weight(weight_NK)
    assert q_NK.dtype == torch.int8 and scale_N.dtype == torch.float16 and scale_N.shape == shape[:1]
    assert q_NK.int().abs().max() == 127
    restored = groupwise.dequantize_int8_weight(q_NK, scale_N)
    np.testing.assert_allclose(restored.numpy(), q_NK.numpy() * scale_N.numpy().astype(float)[:, None], rtol=1e-6)
    assert ((restored - weight_NK).abs() <= scale_N.float()[:, None] * (0.5 + 127 / 2**11)).all()


@pytest.mark.parametrize("threads", ["one thread", "several"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_compiled_form_is_that_of_plain_pytorch(
    shape: tuple[int, int], threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(compiling, "LITTLE", 0 if threads == "several" else sys.maxsize)
    weight_NK = weights(*shape)
    codes = groupwise.quantize_int4(weight_NK)
    packed = (groupwise.pack(codes.q_NW), codes.scale_NG, codes.zero_NG, shape[1])
    assert torch.equal(int4_to_bf16(*packed), groupwise.dequantize_int4(*packed).bfloat16())
    rows = groupwise.quantize_int8_weight(weight_NK)
    assert torch.equal(int8_to_bf16(*rows), groupwise.dequantize_int8_weight(*rows).bfloat16())


def test_every_code_and_tie_is_rounded_to_bf16_as_pytorch_does() -> None:
    """All codes at scales whose products lie halfway between two bf16 numbers, and anywhere else."""
    q_N1 = torch.arange(-127, 128, dtype=torch.int8)[:, None].repeat(1, 64)
    scale_N = torch.linspace(1e-7, 3, len(q_N1)).half()
    scale_N[::2] = 1 + 2.0**-8
    assert torch.equal(int8_to_bf16(q_N1, scale_N), groupwise.dequantize_int8_weight(q_N1, scale_N).bfloat16())
