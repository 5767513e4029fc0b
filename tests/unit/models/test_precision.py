"""Precisions: what the weights become, how far the outputs move, and what a device is refused."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.errors import UnsupportedError, UserError
from rwkv_sweep.models.common.channel_mix import GatedChannelMix
from rwkv_sweep.models.quantization import CpuLinear, apply_precision, check_precision, weights_bytes
from rwkv_sweep.ops.common import onednn
from rwkv_sweep.ops.common.packing import Packed
from tests.small_models import CPU, FP32, all_outputs, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

BF16 = PrecisionConfig("bf16", "bfloat16")
FP16 = PrecisionConfig("fp16", "float16")
INT8 = PrecisionConfig("int8", "float16", "int8")


def is_vector(name: str) -> bool:
    return "ln" in name or name.endswith(("_x", "_w", "_k", "_v", "_r", "_g", "time_decay", "time_faaaa"))


@pytest.mark.parametrize(("config", "dtype"), [(FP32, torch.float32), (BF16, torch.bfloat16), (FP16, torch.float16)])
def test_matrices_get_the_base_dtype_and_vectors_stay_fp32(config: PrecisionConfig, dtype: torch.dtype) -> None:
    model = small_model()
    apply_precision(model, config, CPU)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {dtypes[name] for name in dtypes if is_vector(name)} == {torch.float32}
    assert {dtypes[name] for name in dtypes if not is_vector(name)} == {dtype}
    assert dtypes["blocks.1.attention.time_maa_w2"] == dtypes["embeddings.weight"] == dtype
    assert {mix.matmul_dtype for mix in model.modules() if isinstance(mix, GatedChannelMix)} == {dtype}
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_fp32_changes_no_weight_and_copies_all() -> None:
    plain, model = small_model(), small_model()
    before = model.embeddings.weight.data_ptr()
    apply_precision(model, FP32, CPU)
    for expected, actual in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(expected, actual)
    torch.testing.assert_close(all_outputs(model), all_outputs(plain), rtol=1e-5, atol=1e-5)
    assert model.embeddings.weight.data_ptr() != before
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("config", "least"), [(BF16, 0.999), (FP16, 0.99999), (INT8, 0.99)])
def test_outputs_stay_close_to_fp32(config: PrecisionConfig, least: float) -> None:
    exact, model = all_outputs(small_model()), small_model()
    apply_precision(model, config, CPU)
    actual = all_outputs(model)
    assert actual.dtype == torch.float32 and torch.isfinite(actual).all()
    assert torch.cosine_similarity(actual, exact, dim=-1).min() > least
    assert not torch.equal(actual, exact)


def test_fp16_on_the_cpu_multiplies_in_fp32() -> None:
    model = small_model()
    weight = model.blocks[0].attention.key.weight.detach().clone()
    apply_precision(model, FP16, CPU)
    layer = model.blocks[0].attention.key
    assert isinstance(layer, CpuLinear) and layer.weight.dtype == torch.float16
    x = torch.randn(5, 64)
    expected = nn.functional.linear(x.half().float(), weight.half().float())
    assert layer(x).dtype == torch.float32
    torch.testing.assert_close(layer(x), expected)


def test_int8_layers_hold_int8_rows_and_fp32_scales() -> None:
    import bitsandbytes

    plain, model = small_model(), small_model()
    apply_precision(model, INT8, CPU)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert len(layers) == 3 * 8
    for name, layer in layers.items():
        assert isinstance(layer, bitsandbytes.nn.Linear8bitLt) and layer.state.threshold == 6.0
        assert layer.weight.dtype == torch.int8 and layer.weight.device == CPU
        weight = plain.get_submodule(name).weight.detach()
        restored = layer.weight.float() * layer.state.SCB[:, None] / 127
        assert (restored - weight).abs().max() <= 0.51 * weight.abs().max() / 127 + 1e-3 * weight.abs().max()
    first = all_outputs(model)
    assert all(layer.weight.dtype == torch.int8 for layer in layers.values())
    assert torch.equal(first, all_outputs(model))


def test_int8_computes_large_inputs_in_fp16() -> None:
    """One channel far above the threshold must not cost the others their resolution."""
    model = small_model()
    weight = model.blocks[0].attention.key.weight.detach().clone()
    apply_precision(model, INT8, CPU)
    x = torch.randn(7, 64)
    x[:, 5] = 300.0
    actual = model.blocks[0].attention.key(x.half()).float()
    torch.testing.assert_close(actual, x @ weight.T, rtol=0.02, atol=0.02 * float((x @ weight.T).abs().max()))


def test_weights_bytes_counts_what_lies_in_memory() -> None:
    linear = sum(m.weight.numel() for m in small_model().modules() if isinstance(m, nn.Linear))
    rows = sum(m.out_features for m in small_model().modules() if isinstance(m, nn.Linear))
    sizes = {}
    for config in (FP32, BF16, FP16, INT8):
        model = small_model()
        apply_precision(model, config, CPU)
        sizes[config.name] = weights_bytes(model)
    assert sizes["fp32"] == 4 * sum(p.numel() for p in small_model().parameters())
    assert sizes["bf16"] == sizes["fp16"]
    assert sizes["fp16"] - sizes["int8"] == linear - 4 * rows


def test_tags_say_what_runs() -> None:
    tags = {config.name: apply_precision(small_model(), config, CPU) for config in (FP32, BF16, FP16, INT8)}
    assert {name: tag["precision"] for name, tag in tags.items()} == {name: name for name in tags}
    library = onednn.library()
    assert tags["fp32"]["matmul"] == f"fp32 without TF32 by {library}" and tags["bf16"]["matmul"] == "bf16"
    assert tags["fp16"]["matmul"] == f"fp32 arithmetic by {library} on fp16 weights and inputs"
    assert "int8" in tags["int8"]["matmul"] and "bitsandbytes" in tags["int8"]["matmul"]


@pytest.mark.parametrize("config", [FP16, INT8])
def test_a_weight_too_large_for_fp16_is_named(config: PrecisionConfig) -> None:
    model = small_model()
    with torch.no_grad():
        model.blocks[1].attention.gate.weight[0, 0] = 1e5
    with pytest.raises(UserError, match=r"blocks\.1\.attention\.gate.* size 100000, too large for float16"):
        apply_precision(model, config, CPU)


def test_what_a_device_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="finds no GPU here: valid is device=cpu"):
        check_precision(FP32, torch.device("cuda"))
    with pytest.raises(UserError, match=r"device\.type=mps is not known: valid are cpu, cuda"):
        check_precision(FP32, torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"device\.index=1 is not there: this machine has GPUs 0 to 0"):
        check_precision(FP32, torch.device("cuda", 1))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    check_precision(FP16, torch.device("cuda", 0))
    with pytest.raises(UserError, match=r"bfloat16 needs a GPU of compute capability 8\.0.*valid there are float32"):
        check_precision(BF16, torch.device("cuda", 0))
    with pytest.raises(UserError, match=r"int8 needs a GPU of compute capability 7\.5, and cuda:0 has 7\.0"):
        check_precision(INT8, torch.device("cuda", 0))


def test_int8_needs_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"precision\.base=float8 is not known"):
        check_precision(PrecisionConfig("odd", "float8"), CPU)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UnsupportedError, match=r"need bitsandbytes .*pip install 'rwkv-sweep\[quantization\]'"):
        check_precision(INT8, CPU)


@pytest.mark.gpu
@pytest.mark.parametrize(("config", "least"), [(FP32, 0.99999), (BF16, 0.999), (FP16, 0.9999), (INT8, 0.99)])
def test_gpu_outputs_stay_close_to_fp32(config: PrecisionConfig, least: float) -> None:
    exact, model, device = all_outputs(small_model()), small_model(), torch.device("cuda", 0)
    apply_precision(model, config, device)
    ids = torch.randint(0, 256, (50,), generator=torch.Generator().manual_seed(0)).to(device)
    actual: list[Tensor] = []
    with torch.inference_mode():
        model(ids, Packed.of((1, 9, 40), device), [0, 1, 2, 3], lambda _, h_TD: actual.append(h_TD.cpu()))
    assert torch.cosine_similarity(torch.stack(actual), exact, dim=-1).min() > least
