"""Kernels of the 8-bit layers against their plain PyTorch references, on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rwkv_sweep.config import PrecisionConfig
from rwkv_sweep.models import fused
from rwkv_sweep.models.initialize import initialize
from rwkv_sweep.models.packed import Packed
from rwkv_sweep.models.precision import apply_precision
from rwkv_sweep.models.precision.native import Fp8Linear, Int8Linear, int_product
from rwkv_sweep.models.rows import FP8, product_reference, quantize_rows, quantize_rows_reference
from rwkv_sweep.models.rwkv6 import Rwkv6Config, Rwkv6Model

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda", 0)
SHAPES = ((1, 16), (7, 128), (33, 896), (300, 2048), (65, 7168))


def rows(tokens: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows of very different sizes; the first is zero."""
    x_TK = torch.randn(tokens, width, generator=torch.Generator().manual_seed(tokens + width))
    x_TK *= torch.logspace(-3, 3, tokens)[:, None]
    x_TK[0] = 0
    return x_TK.to(GPU, dtype)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("source", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.int8, FP8])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_equal_the_reference_bit_for_bit(
    shape: tuple[int, int], dtype: torch.dtype, source: torch.dtype, square: bool
) -> None:
    x_TK = rows(*shape, source)
    q_TK, scale_T = quantize_rows(x_TK, dtype, square)
    expected_TK, expected_T = quantize_rows_reference(x_TK, dtype, square)
    assert q_TK.dtype == dtype and torch.equal(q_TK.float(), expected_TK.float())
    assert torch.equal(scale_T, expected_T)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.int8, FP8])
def test_what_is_not_finite_does_not_become_a_number(dtype: torch.dtype, bad: float) -> None:
    x_TK = rows(40, 64, torch.float32)
    x_TK[3, 5] = bad
    kind = Int8Linear if dtype == torch.int8 else Fp8Linear
    layer = kind(nn.Linear(64, 32, bias=False), torch.bfloat16, GPU)
    finite_T = torch.isfinite(layer(x_TK)).all(-1)
    assert not finite_T[3] and finite_T.sum() == 39


@pytest.mark.parametrize("tokens", [1, 17, 64, 700, 4096])
@pytest.mark.parametrize("sizes", [(64, 32), (896, 256), (2048, 2048), (2048, 7168)])
@pytest.mark.parametrize("kind", [Int8Linear, Fp8Linear])
def test_products_match_the_reference(kind: type, sizes: tuple[int, int], tokens: int) -> None:
    inner, outer = sizes
    layer = kind(nn.Linear(inner, outer, bias=False), torch.bfloat16, GPU)
    q_TK, scale_T = layer.quantize(rows(tokens, inner, torch.bfloat16))
    expected = product_reference(q_TK, scale_T, layer.weight_NK, layer.scale_N)
    found = layer.product(q_TK, scale_T)
    assert found.dtype == torch.bfloat16 and found.shape == (tokens, outer)
    # bf16 has 8 bits of mantissa; fast accumulation of fp8 loses some of its own.
    error = (found.float() - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-30)
    assert error.max() < (0.004 if kind is Int8Linear else 0.01)


def test_integers_by_pytorch_and_by_triton_agree() -> None:
    layer = Int8Linear(nn.Linear(256, 128, bias=False), torch.float32, GPU)
    for tokens in (3, 40, 2000):
        q_TK, scale_T = layer.quantize(rows(tokens, 256, torch.float32))
        integers = int_product(q_TK, layer.weight_NK)
        expected = integers.float() * scale_T[:, None] * layer.scale_N
        torch.testing.assert_close(layer.product(q_TK, scale_T), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("quantization", ["int8_dynamic", "fp8"])
@pytest.mark.parametrize("modules", ["all", "channel_mix", ["key", "time_mix.output"]])
@torch.inference_mode()
def test_fused_blocks_give_what_plain_blocks_give(
    quantization: str, modules: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Rwkv6Model(Rwkv6Config(256, 128, 3, head_size=32)).eval()
    initialize(model, seed=0, zero_outputs=False)
    apply_precision(model, PrecisionConfig(quantization, "bfloat16", quantization, modules=modules), GPU)
    lengths = (1, 9, 40, 3000)
    ids_T = torch.randint(0, 256, (sum(lengths),), generator=torch.Generator().manual_seed(0)).to(GPU)

    def outputs() -> torch.Tensor:
        found: list[torch.Tensor] = []
        model(ids_T, Packed.of(lengths, GPU), [0, 1, 2, 3], lambda _, h_TD: found.append(h_TD))
        return torch.stack(found)

    fast = outputs()
    monkeypatch.setattr(fused, "why_not", lambda *_: "the plain blocks are asked for")
    plain = outputs()
    assert not torch.equal(fast, plain)
    # A difference in bf16's last bit may move a number by one of fp8's steps, which are up to 12 % wide.
    assert torch.cosine_similarity(fast, plain, dim=-1).min() > (0.99 if quantization == "fp8" else 0.999)
