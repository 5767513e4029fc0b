"""The precision a model runs in: dtypes of its weights, and which of its linear layers are quantized, and how.

Matrices (linear layers, low-rank matrices, embedding) get the base dtype; vectors (norms, mixes, decays, bonus) stay
fp32, as the arithmetic on them does. fp32 products never use TF32, except those of the linear layers where it is asked
for: the WKV operator runs in fp32 always.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.quantization.audit import Audit, audit, layer_bytes, quantized_kernel
from rwkv_sweep.models.quantization.bitsandbytes_layers import FourBitLinear, int8_linear, needs_host
from rwkv_sweep.models.quantization.calibration.hqq import hqq_codes
from rwkv_sweep.models.quantization.calibration.observed import Batches, ObservedLinear, calibrate
from rwkv_sweep.models.quantization.dtypes import (
    DTYPES,
    SHORT_NAMES,
    CpuLinear,
    Tf32Linear,
    check_fits,
    converted,
    is_matrix,
    linears,
    plain_kernel,
    plain_linear,
)
from rwkv_sweep.models.quantization.native import Fp8Linear, Int8Linear, RowwiseLinear, unfit_shape
from rwkv_sweep.models.quantization.selection import check_selection, left_alone, place
from rwkv_sweep.models.quantization.support import check_precision
from rwkv_sweep.models.quantization.weight_only import INT4, WEIGHT_ONLY, WeightOnlyLinear, weight_only_linear
from rwkv_sweep.models.quantization.weight_only_gpu import packed
from rwkv_sweep.ops.common.groupwise import GroupCodes

__all__ = [
    "Audit",
    "CpuLinear",
    "FourBitLinear",
    "Fp8Linear",
    "Int8Linear",
    "RowwiseLinear",
    "Tf32Linear",
    "WeightOnlyLinear",
    "apply_precision",
    "audit",
    "check_precision",
    "check_selection",
    "kernel_tags",
    "needs_host",
    "weights_bytes",
]


def apply_precision(
    model: RwkvModel, precision: PrecisionConfig, device: torch.device, batches: Batches | None = None
) -> dict[str, str]:
    """Convert a freshly loaded model in place and move it to `device`, tensor by tensor.

    batches: what `precision.calibration=gptq` reads.

    Every tensor is copied, so none stays mapped from a file. Returns `kernel_tags`.

    Raises:
        UserError: see `check_precision` and `check_selection`; or a weight is too large for fp16.
        UnsupportedError: see `check_precision`.
    """
    check_precision(precision, device)
    check_selection(precision, model.config.num_hidden_layers, model.config.lacking_kinds)
    torch.set_float32_matmul_precision("highest")
    base, chosen = DTYPES[precision.base], _chosen(model, precision, device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if name.rpartition(".")[0] not in chosen:
            dtype = base if is_matrix(name, parameter) else torch.float32
            parameter.data = converted(name, parameter.data, dtype, device)
    for name, linear in list(linears(model)):
        if name in chosen:
            if device.type == "cuda":
                # In the file's dtype: what follows happens there, and the host converts nothing.
                linear.weight.data = linear.weight.data.to(device)
            _replace(model, name, _quantized(name, linear, precision, device, batches is not None))
        else:
            _replace(model, name, plain_linear(linear, precision.base, device))
    modules: Iterable[Any] = model.modules()
    for module in modules:
        if hasattr(module, "matmul_dtype"):  # a channel mix of any generation
            module.matmul_dtype = base
    if batches is not None:
        _calibrate(model, precision, device, batches)
    return kernel_tags(precision, device)


def kernel_tags(precision: PrecisionConfig, device: torch.device) -> dict[str, str]:
    """What runs, in words: `precision`, `matmul` and `wkv`."""
    plain = plain_kernel(precision.base, device)
    if precision.quantization == "none":
        return {"precision": SHORT_NAMES[precision.base], "matmul": plain, "wkv": "chunked"}
    matmul = f"linear layers: {quantized_kernel(precision, device)}; others: {plain}"
    return {"precision": precision.quantization, "matmul": matmul, "wkv": "chunked"}


def weights_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, and of the scales that quantized layers keep beside their weights."""
    return layer_bytes(model)


def _chosen(model: RwkvModel, precision: PrecisionConfig, device: torch.device) -> set[str]:
    """Names of the linear layers to quantize."""
    blocks = model.config.num_hidden_layers
    native = precision.quantization in ("int8_dynamic", "fp8")
    return {
        name
        for name, linear in linears(model)
        if left_alone(name, precision, blocks) is None and not (native and unfit_shape(linear, device))
    }


def _quantized(
    name: str, linear: nn.Linear, precision: PrecisionConfig, device: torch.device, observed: bool
) -> nn.Module:
    """The layer, quantized from the weights as they are in the file. observed: or made ready for a calibration."""
    base = DTYPES[precision.base]
    if observed:
        check_fits(name, linear.weight)
        return ObservedLinear(linear, device)
    if precision.quantization == "int8":
        return int8_linear(name, linear, device)
    if precision.quantization == "int8_dynamic":
        return Int8Linear(linear, base, device).eval()
    if precision.quantization == "fp8":
        return Fp8Linear(linear, base, device).eval()
    if precision.quantization in WEIGHT_ONLY:
        hqq = precision.calibration == "hqq"
        codes = hqq_codes(linear.weight.data.to(device, torch.float32)) if hqq else None
        return packed(weight_only_linear(name, linear, precision.quantization, base, device, codes))
    return packed(FourBitLinear(linear, precision.quantization, precision.double_quantization, base, device).eval())


def _calibrate(model: RwkvModel, precision: PrecisionConfig, device: torch.device, batches: Batches) -> None:
    """Put calibrated layers into the places of the observed ones."""
    observed = {name: module for name, module in model.named_modules() if isinstance(module, ObservedLinear)}
    by_block: dict[int, dict[str, ObservedLinear]] = {}
    for name, layer in observed.items():
        placed = place(name)
        assert placed is not None  # only such layers are chosen
        by_block.setdefault(placed[0], {})[name] = layer

    def quantize(name: str, codes: GroupCodes) -> None:
        linear = observed[name].plain()
        layer = weight_only_linear(name, linear, INT4, DTYPES[precision.base], device, codes)
        _replace(model, name, packed(layer))

    model.prepare(device)
    calibrate(model, by_block, batches, quantize)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
