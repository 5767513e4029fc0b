"""Layers whose weights alone are in 4 or 8 bits: what they multiply, what they weigh, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.quantization import WeightOnlyLinear, apply_precision, audit, weights_bytes
from rwkv_sweep.models.quantization.weight_only import WEIGHT_ONLY, weight_only_linear
from rwkv_sweep.ops.common.groupwise import quantize_int4
from tests.small_models import CPU, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

BASES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(64, 24), (100, 7), (1, 3)])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", WEIGHT_ONLY)
def test_outputs_are_those_of_the_dequantized_weights(
    kind: str, base: torch.dtype, sizes: tuple[int, int], bias: bool
) -> None:
    linear = nn.Linear(*sizes, bias=bias).requires_grad_(False)
    layer = weight_only_linear("a layer", linear, kind, base, CPU)
    x = torch.randn(2, 5, sizes[0])
    bias_N = None if linear.bias is None else linear.bias.to(base).double()
    expected = nn.functional.linear(x.to(base).double(), layer.dequantized().double(), bias_N)
    # bf16 outputs are rounded to eight bits, fp16 and fp32 ones stay fp32 on a CPU.
    tolerance = 2**-8 if base == torch.bfloat16 else 1e-5
    torch.testing.assert_close(layer(x).double(), expected, rtol=tolerance, atol=tolerance)
    assert layer.dequantized().dtype == base and layer(x).shape == (2, 5, sizes[1])
    largest = linear.weight.abs().max()
    assert (layer.dequantized(torch.float32) - linear.weight).abs().max() <= largest * (
        0.08 if layer.bits == 4 else 0.005
    )


def test_the_codes_of_a_calibration_are_kept() -> None:
    linear = nn.Linear(64, 3, bias=False)
    codes = quantize_int4(linear.weight.detach() * 0.5)
    layer = weight_only_linear("a layer", linear, "int4", torch.float32, CPU, codes)
    torch.testing.assert_close(layer.dequantized(), linear.weight * 0.5, rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", WEIGHT_ONLY)
def test_a_weight_beyond_fp16_is_refused(kind: str) -> None:
    linear = nn.Linear(64, 3, bias=False)
    linear.weight.data[1, 2] = 1e6
    with pytest.raises(UserError, match=r"a\.layer has an entry of size 1e\+06, too large for float16"):
        weight_only_linear("a.layer", linear, kind, torch.bfloat16, CPU)


@pytest.mark.parametrize(("kind", "bits"), [("int4", 4 + 2 * 16 / 64), ("int8_weight", 8 + 16 / 64)])
def test_audit_and_memory_count_codes_scales_and_zeros(kind: str, bits: float) -> None:
    """The model's layers have 64 inputs, those of the channel mix's value 128."""
    config = PrecisionConfig(kind, "bfloat16", kind, modules="time_mix")
    model = small_model()
    apply_precision(model, config, CPU)
    layers = [module for module in model.modules() if isinstance(module, WeightOnlyLinear)]
    assert len(layers) == 3 * 5
    audited = audit(model, config, CPU)
    quantized = [entry for entry in audited.entries if entry.quantized]
    assert {entry.stored for entry in quantized} == {f"int{layers[0].bits}"}
    assert sum(entry.bytes for entry in quantized) == sum(entry.parameters for entry in quantized) * bits / 8
    assert sum(entry.bytes for entry in audited.entries) == weights_bytes(model)
    assert "int4 in groups of 64" in audited.kernel if kind == "int4" else "int8 rows" in audited.kernel
