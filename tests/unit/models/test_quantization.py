"""Quantized layers: that they are what they are called, everywhere they are asked for, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.errors import UnsupportedError, UserError
from rwkv_sweep.models.quantization import (
    FourBitLinear,
    Int8Linear,
    apply_precision,
    audit,
    check_precision,
    native,
    weights_bytes,
)
from rwkv_sweep.models.quantization.native import int_mm_is_exact
from rwkv_sweep.models.quantization.selection import resolve_blocks, resolve_modules
from rwkv_sweep.models.rwkv6.network import Rwkv6Model
from rwkv_sweep.ops.common.number_formats import FP8
from rwkv_sweep.ops.rowwise import matmul_reference, quantize_rows, quantize_rows_reference
from tests.small_models import CPU, all_outputs, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

QUANTIZATIONS = ("int8", "nf4", "fp4", "int8_dynamic", "int8_weight", "int4")
HALVES = {"time_mix": "attention", "channel_mix": "feed_forward"}


def precision(quantization: str, base: str = "float32", **options: object) -> PrecisionConfig:
    return PrecisionConfig(quantization, base, quantization, **options)  # type: ignore[arg-type]


def quantized(config: PrecisionConfig) -> Rwkv6Model:
    model = small_model()
    apply_precision(model, config, CPU)
    return model


def nf4_codebook() -> np.ndarray:
    """The 16 numbers of NF4 from their definition: quantiles of the normal distribution, 8 of them not negative."""
    offset = 0.9677083
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    codes = np.sort(np.concatenate([above, [0.0], below]))
    return codes / codes.max()


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bit_kinds_are_themselves_everywhere(kind: str) -> None:
    model = quantized(precision(kind))
    layers = [module for module in model.modules() if isinstance(module, FourBitLinear)]
    assert len(layers) == 3 * 8
    assert {layer.quant_state.quant_type for layer in layers} == {kind}
    before = [layer.packed.clone() for layer in layers]
    all_outputs(model)
    assert {layer.quant_state.quant_type for layer in layers} == {kind}
    assert all(torch.equal(old, layer.packed) for old, layer in zip(before, layers, strict=True))


def test_nf4_weights_are_the_nearest_codes_of_the_codebook() -> None:
    plain, model, codes = small_model(), quantized(precision("nf4")), nf4_codebook()
    for name, layer in model.named_modules():
        if not isinstance(layer, FourBitLinear):
            continue
        weight = plain.get_submodule(name).weight.detach().numpy().reshape(-1, 64).astype(np.float64)
        actual = layer.dequantized().numpy().reshape(-1, 64)
        largest = np.abs(weight).max(axis=1, keepdims=True)
        assert np.abs(actual / largest - codes[np.abs((actual / largest)[..., None] - codes).argmin(-1)]).max() < 1e-6
        nearest = np.abs(weight[..., None] / largest[..., None] - codes).min(-1)
        assert (np.abs(weight - actual) / largest <= nearest + 1e-6).all()


@pytest.mark.parametrize("kind", QUANTIZATIONS)
@pytest.mark.parametrize(
    ("blocks", "modules"), [("first2", "all"), (1, "time_mix"), ([0, 2], ["key", "channel_mix.value"]), ("none", "all")]
)
def test_nothing_but_the_chosen_layers_changes(kind: str, blocks: object, modules: object) -> None:
    config = precision(kind, "bfloat16", blocks=blocks, modules=modules)
    base, model = quantized(PrecisionConfig("bf16", "bfloat16")), quantized(config)
    chosen = {
        f"blocks.{block}.{HALVES[half]}.{layer}"
        for block in resolve_blocks(blocks, 3)
        for half, layer in (module.split(".") for module in resolve_modules(modules))
    }
    changed = {name for name, module in model.named_modules() if type(module) is not type(base.get_submodule(name))}
    assert changed == chosen
    theirs = dict(model.named_parameters())
    for name, parameter in base.named_parameters():
        if name.rpartition(".")[0] not in chosen:
            assert parameter.dtype == theirs[name].dtype and torch.equal(parameter, theirs[name])
    if blocks == "none":
        assert torch.equal(all_outputs(base), all_outputs(model))


@pytest.mark.parametrize(
    ("kind", "least"),
    [("int8", 0.99), ("int8_dynamic", 0.99), ("int8_weight", 0.99), ("int4", 0.9), ("nf4", 0.9), ("fp4", 0.85)],
)
@pytest.mark.parametrize("base", ["float32", "bfloat16", "float16"])
def test_outputs_stay_close_to_fp32(kind: str, least: float, base: str) -> None:
    exact, actual = all_outputs(small_model()), all_outputs(quantized(precision(kind, base)))
    assert actual.dtype == torch.float32 and torch.isfinite(actual).all()
    cosines = torch.cosine_similarity(actual, exact, dim=-1)
    assert cosines.mean() > least and not torch.equal(actual, exact)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("dtype", [torch.int8, FP8])
def test_rows_are_within_half_a_step(dtype: torch.dtype, square: bool) -> None:
    x_TK = torch.randn(9, 33) * torch.logspace(-4, 4, 9)[:, None]
    x_TK[4] = 0
    q_TK, scale_T = quantize_rows(x_TK, dtype, square)
    target = torch.relu(x_TK) ** 2 if square else x_TK
    restored = q_TK.float() * scale_T[:, None]
    largest = target.abs().amax(-1, keepdim=True)
    step = largest / 127 if dtype == torch.int8 else torch.maximum(target.abs() / 8, largest / 448 / 2**9)
    assert ((restored - target).abs() <= 0.5 * step * 1.001).all() and (restored[4] == 0).all()
    assert torch.equal((q_TK.float().abs().amax(-1) == (127 if dtype == torch.int8 else 448)), largest[:, 0] > 0)


def test_int8_products_are_those_of_the_dequantized_factors() -> None:
    linear = nn.Linear(40, 24, bias=False)
    layer = Int8Linear(linear, torch.float32, CPU)
    x = torch.randn(2, 7, 40)
    rows, scales = quantize_rows_reference(x.view(14, 40), torch.int8)
    expected = matmul_reference(rows, scales, layer.weight_NK, layer.scale_N).view(2, 7, 24)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert (layer.dequantized() - linear.weight).abs().max() <= 0.501 * linear.weight.abs().max() / 127
    x[1, 3, 5] = torch.nan
    assert torch.isfinite(layer(x)).all(-1).sum() == 13


@pytest.mark.parametrize("exact", [True, False])
def test_int8_products_are_exact_whatever_the_processor(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without VNNI instructions oneDNN saturates where both factors are large."""
    generator = torch.Generator().manual_seed(0)
    q_TK, weight_NK = (torch.randint(-127, 128, (n, 2100), generator=generator, dtype=torch.int8) for n in (40, 24))
    q_TK[0], weight_NK[0] = 127, 127
    monkeypatch.setattr(native, "int_mm_is_exact", lambda: exact and int_mm_is_exact())
    expected = q_TK.numpy().astype(np.int64) @ weight_NK.numpy().astype(np.int64).T
    np.testing.assert_array_equal(native.int_product(q_TK, weight_NK).numpy(), expected)


def test_a_saturating_product_is_found_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As oneDNN adds without VNNI: one factor is made unsigned, and the sum of two products has 16 bits."""

    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a, b = a.long() + 128, b.long()
        pairs = [(a[:, k : k + 2] @ b[k : k + 2]).clamp(-(2**15), 2**15 - 1) for k in range(0, a.shape[1], 2)]
        return torch.stack(pairs).sum(0) - 128 * b.sum(0)

    monkeypatch.setattr(torch, "_int_mm", saturating)
    int_mm_is_exact.cache_clear()
    try:
        assert not int_mm_is_exact() and not int_mm_is_exact()
        assert native.native_kernel("int8_dynamic", CPU) == "int8 rows, products in fp64, inputs by Numba"
        (record,) = caplog.records
        assert "int8 multiplies in fp64" in record.getMessage()
    finally:
        int_mm_is_exact.cache_clear()


def test_sizes() -> None:
    sizes = {kind: weights_bytes(quantized(precision(kind, "float16"))) for kind in QUANTIZATIONS}
    half = weights_bytes(quantized(PrecisionConfig("fp16", "float16")))
    matrices = sum(layer.weight.numel() for layer in small_model().modules() if isinstance(layer, nn.Linear))
    rows = sum(layer.out_features for layer in small_model().modules() if isinstance(layer, nn.Linear))
    assert sizes["int8"] == sizes["int8_dynamic"] == half - matrices + 4 * rows
    assert sizes["int8_weight"] == half - matrices + 2 * rows
    # Whole groups: the channel mix's value has 224 inputs, padded to 256. Scale and zero of each group take four bytes.
    layers = [layer for layer in small_model().modules() if isinstance(layer, nn.Linear)]
    groups = sum(layer.out_features * -(-layer.in_features // 64) for layer in layers)
    assert sizes["int4"] == half - 2 * matrices + groups * (32 + 4)
    # Half a byte a weight, a scale of four bytes for each 64, and a table of 16 numbers a layer.
    assert sizes["nf4"] == sizes["fp4"] == half - 2 * matrices + matrices // 2 + 4 * matrices // 64 + 24 * 64
    double = weights_bytes(quantized(precision("nf4", "float16", double_quantization=True)))
    scales = 4 * matrices // 64 - matrices // 64
    assert double < sizes["nf4"] - scales + 24 * (256 * 4 + 64)


def test_audit() -> None:
    config = precision("nf4", "bfloat16", blocks="first2", modules="channel_mix")
    model = quantized(config)
    actual = audit(model, config, CPU)
    metrics, record = actual.metrics(), actual.record()
    total = sum(parameter.numel() for parameter in small_model().parameters())
    wide = sum(
        layer.weight.numel() for layer in small_model().blocks[0].feed_forward.modules() if isinstance(layer, nn.Linear)
    )
    assert sum(entry.parameters for entry in actual.entries) == total
    assert sum(entry.bytes for entry in actual.entries) == weights_bytes(model)
    assert metrics["audit/parameters_share"] == pytest.approx(2 * wide / total)
    assert metrics["audit/kind/channel_mix.key"] == pytest.approx(2 / 3) and metrics["audit/kind/time_mix.key"] == 0
    assert metrics["audit/block/00"] == metrics["audit/block/01"] > 0 == metrics["audit/block/02"]
    assert metrics["memory/embedding_mib"] == 256 * 64 * 2 / 2**20
    assert "nf4" in actual.kernel and set(record["quantized"].values()) == {"nf4"} and len(record["quantized"]) == 6
    reasons = record["left_alone"]
    assert len(reasons["not among precision.modules=channel_mix"]["names"]) == 2 * 5
    assert len(reasons["block not among precision.blocks=first2"]["names"]) == 8
    assert reasons["the embedding table is looked up, not multiplied"]["names"] == ["embeddings.weight"]
    none = audit(quantized(PrecisionConfig("fp32", "float32")), PrecisionConfig("fp32", "float32"), CPU)
    assert none.kernel == "none" and none.metrics()["audit/parameters_share"] == 0
    assert none.metrics()["audit/bits_per_parameter"] == 32


def test_what_a_cpu_cannot_do_is_unsupported() -> None:
    for config in (PrecisionConfig("tf32", "tfloat32"), precision("fp8", "bfloat16")):
        with pytest.raises(UnsupportedError, match="needs a GPU of compute capability"):
            check_precision(config, CPU)
    with pytest.raises(UserError, match=r"double_quantization=true with precision\.quantization=int8"):
        check_precision(precision("int8", "float16", double_quantization=True), CPU)


@pytest.mark.parametrize(
    ("config", "capability"),
    [
        (PrecisionConfig("tf32", "tfloat32"), (7, 5)),
        (precision("fp8", "bfloat16"), (8, 0)),
        (precision("int8"), (7, 0)),
    ],
)
def test_what_a_gpu_cannot_do_is_unsupported(
    config: PrecisionConfig, capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with pytest.raises(UnsupportedError, match=r"needs a GPU of compute capability .*, and cuda:0 has"):
        check_precision(config, torch.device("cuda", 0))


def test_a_library_imported_so_compiles_when_first_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from rwkv_sweep.models.quantization import bitsandbytes_layers

    compiled: list[tuple[str, dict[str, object]]] = []

    def compile_now(function: Callable[[int], int], **options: object) -> Callable[[int], int]:
        compiled.append((function.__name__, options))
        return lambda number: 10 * function(number)

    monkeypatch.setattr(torch, "compile", compile_now)
    with bitsandbytes_layers._compiling_at_first_call():

        @torch.compile
        def plain(number: int) -> int:
            return number

        @torch.compile(dynamic=False)
        def with_options(number: int) -> int:
            return number + 1

    assert torch.compile is compile_now and not compiled
    assert [with_options(1), with_options(2), plain(3)] == [20, 30, 30]
    assert compiled == [("with_options", {"dynamic": False}), ("plain", {})]
