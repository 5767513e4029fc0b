"""Kernels of the 8-bit layers against their plain PyTorch references, on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.quantization import apply_precision
from rwkv_sweep.models.quantization.native import Fp8Linear, Int8Linear, int_product
from rwkv_sweep.models.quantization.weight_only_gpu import stacked_weights
from rwkv_sweep.ops.common.number_formats import FP8
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.rowwise import matmul_reference, quantize_rows, quantize_rows_reference
from tests.gpu.device import GPU
from tests.small_models import all_outputs, small_model

pytestmark = pytest.mark.gpu
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
    expected = matmul_reference(q_TK, scale_T, layer.weight_NK, layer.scale_N)
    actual = layer.matmul(q_TK, scale_T)
    assert actual.dtype == torch.bfloat16 and actual.shape == (tokens, outer)
    # bf16 has 8 bits of mantissa; fast accumulation of fp8 loses some of its own.
    error = (actual.float() - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-30)
    assert error.max() < (0.004 if kind is Int8Linear else 0.01)


@pytest.mark.parametrize("tokens", [40, 128])
@pytest.mark.parametrize("kind", [Int8Linear, Fp8Linear])
def test_several_layers_of_few_tokens_equal_each(kind: type, tokens: int) -> None:
    kernels = pytest.importorskip("rwkv_sweep.ops.triton.quantized.few_tokens", reason="no Triton")
    layers = [kind(nn.Linear(384, 208, bias=False), torch.bfloat16, GPU) for _ in range(4)]
    q_XK, scale_X = layers[0].quantize(rows(4 * tokens, 384, torch.bfloat16))
    q_GTK, scale_GT = q_XK.view(4, tokens, 384), scale_X.view(4, tokens)
    separate = [layer.matmul(*inputs) for layer, *inputs in zip(layers, q_GTK, scale_GT, strict=True)]
    stack = stacked_weights(layers)
    assert stack is not None
    together = kernels.few_tokens_matmul(q_GTK, stack, row_scale_GT=scale_GT, dtype=torch.bfloat16)
    for out, alone, layer, *inputs in zip(together, separate, layers, q_GTK, scale_GT, strict=True):
        torch.testing.assert_close(out, alone, rtol=0.008, atol=0.01 * float(alone.abs().max()))
        # The layer's weights now lie in the stack.
        assert torch.equal(layer.matmul(*inputs), alone)


def test_integers_by_pytorch_and_by_triton_agree() -> None:
    layer = Int8Linear(nn.Linear(256, 128, bias=False), torch.float32, GPU)
    for tokens in (3, 40, 2000):
        q_TK, scale_T = layer.quantize(rows(tokens, 256, torch.float32))
        integers = int_product(q_TK, layer.weight_NK)
        expected = integers.float() * scale_T[:, None] * layer.scale_N
        torch.testing.assert_close(layer.matmul(q_TK, scale_T), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("quantization", ["int8_dynamic", "fp8"])
@pytest.mark.parametrize("modules", ["all", "channel_mix", ["key", "time_mix.output"]])
@torch.inference_mode()
def test_fused_blocks_give_what_plain_blocks_give(
    quantization: str, modules: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(128, head_size=32)
    apply_precision(model, PrecisionConfig(quantization, "bfloat16", quantization, modules=modules), GPU)
    lengths = (1, 9, 40, 3001)  # an odd number of tokens, so that rows of scales lie at odd places
    fast = all_outputs(model, lengths, GPU)
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "the plain blocks are asked for")
    plain = all_outputs(model, lengths, GPU)
    assert not torch.equal(fast, plain)
    # A difference in bf16's last bit may move a number by a whole step of its 8 bits; fp8's are up to 12 % wide.
    mean, least = (0.99, 0.95) if quantization == "fp8" else (0.999, 0.99)
    cosines = torch.cosine_similarity(fast, plain, dim=-1)
    assert cosines.mean() > mean and cosines.min() > least


@pytest.mark.parametrize("lengths", [(1, 9, 40), (5, 3000)])
def test_mixes_leave_their_kernel_as_fp8_rows(lengths: tuple[int, ...]) -> None:
    from rwkv_sweep.ops.triton.residual import add_norm_mix
    from rwkv_sweep.ops.triton.token_shift import interpolate_token_shifts
    from rwkv_sweep.ops.triton.token_shift_fp8 import interpolate_token_shifts_fp8, interpolation_bounds

    width, rank, tokens = 96, 32, sum(lengths)
    random = torch.Generator().manual_seed(0)
    h_TD, low_TR, high_5RD, fixed_5D = (
        torch.randn(*shape, generator=random).to(GPU)
        for shape in ((tokens, width), (tokens, 5 * rank), (5, rank, width), (5, width))
    )
    h_TD[3] *= 1000
    norm, packed = nn.LayerNorm(width).to(GPU), Packed.of(lengths, GPU)
    low_TR, high_5RD, fixed = low_TR.bfloat16(), high_5RD.bfloat16(), list(fixed_5D)
    normed = add_norm_mix(h_TD, None, None, norm, fixed[:1], packed, torch.bfloat16, amax=True)
    torch.testing.assert_close(normed.amax_T, norm(h_TD).abs().amax(-1))
    exact_5TD = interpolate_token_shifts(normed, norm, low_TR, high_5RD, fixed, packed).float()
    first_TD, rows_4TD, scale_4T = interpolate_token_shifts_fp8(
        normed, norm, low_TR, high_5RD, fixed, packed, interpolation_bounds(high_5RD, fixed)
    )
    assert torch.equal(first_TD.float(), exact_5TD[0])
    largest_4T = exact_5TD[1:].abs().amax(-1)
    assert (largest_4T <= 448 * scale_4T * 1.01).all()
    # Half a step of fp8 (and bf16's own rounding); near zero, half of its smallest step.
    error_4TD = (rows_4TD.float() * scale_4T[..., None] - exact_5TD[1:]).abs()
    assert (error_4TD <= 0.067 * exact_5TD[1:].abs() + 2.0**-10 * scale_4T[..., None]).all()
