"""What was quantized and what was not, read from the layers themselves, not from what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.models.common.interface import Network
from rwkv_sweep.models.quantization.bitsandbytes_layers import (
    BLOCK_4BIT,
    OUTLIER_THRESHOLD,
    FourBitLinear,
    is_llm_int8,
    runs_own_int8,
    state_tensors,
)
from rwkv_sweep.models.quantization.dtypes import is_matrix
from rwkv_sweep.models.quantization.native import RowwiseLinear, native_kernel, unfit_shape
from rwkv_sweep.models.quantization.selection import left_alone, place
from rwkv_sweep.models.quantization.weight_only import STORED, WEIGHT_ONLY, WeightOnlyLinear, weight_only_kernel
from rwkv_sweep.models.quantization.weight_only_gpu import PACKED_KERNEL, PackedLinear, runs_packed

NONE = "none"


@dataclass(frozen=True)
class AuditedTensor:
    """One tensor or quantized layer.

    Attributes:
        name: of the parameter, or of the layer where its weights are quantized.
        kind: `embedding`, `vector`, `low_rank`, or a linear layer's, such as `time_mix.key`.
        block: number of the block; None outside of them.
        parameters: numbers it stands for. bytes: that they take, scales included.
        stored: `nf4`, `fp4`, `int8`, `fp8`, ... or a dtype. quantized: whether in fewer than 16 bits.
        why: reason why it was left alone; None where it was quantized.
    """

    name: str
    kind: str
    block: int | None
    parameters: int
    bytes: int
    stored: str
    quantized: bool
    why: str | None


@dataclass(frozen=True)
class Audit:
    """All tensors of a model. kernel: what multiplies the quantized layers, or `none`."""

    entries: tuple[AuditedTensor, ...]
    kernel: str

    def metrics(self) -> dict[str, float]:
        """Shares of 1, bits and MiB, under the names of docs/metrics.md."""
        blocks = [entry for entry in self.entries if entry.kind != "embedding"]
        embedding = [entry for entry in self.entries if entry.kind == "embedding"]
        shares = {
            "audit/parameters_share": _share(self.entries, "parameters"),
            "audit/bytes_share": _share(self.entries, "bytes"),
            "audit/parameters_share_without_embedding": _share(blocks, "parameters"),
            "audit/bits_per_parameter": _bits(self.entries),
            "audit/bits_per_parameter_without_embedding": _bits(blocks),
            "memory/embedding_mib": _total(embedding, "bytes") / 2**20,
            "memory/weights_without_embedding_mib": _total(blocks, "bytes") / 2**20,
        }
        for kind, entries in self._linear_layers("kind").items():
            shares[f"audit/kind/{kind}"] = _share(entries, "parameters")
        for block, entries in self._linear_layers("block").items():
            shares[f"audit/block/{int(block):02d}"] = _share(entries, "parameters")
        return shares

    def record(self) -> dict[str, Any]:
        """Everything, for audit.json."""
        return {
            "kernel": self.kernel,
            "metrics": self.metrics(),
            "by_kind": {kind: _sums(entries) for kind, entries in self._grouped("kind").items()},
            "by_block": {block: _sums(entries) for block, entries in self._grouped("block").items()},
            "left_alone": {
                reason: {**_sums(entries), "names": [entry.name for entry in entries]}
                for reason, entries in self._grouped("why").items()
                if reason != "None"
            },
            "quantized": {entry.name: entry.stored for entry in self.entries if entry.quantized},
        }

    def _linear_layers(self, key: str) -> dict[str, list[AuditedTensor]]:
        return _groups((entry for entry in self.entries if "." in entry.kind), key)

    def _grouped(self, key: str) -> dict[str, list[AuditedTensor]]:
        return _groups(self.entries, key)


def audit(model: Network, precision: PrecisionConfig, device: torch.device) -> Audit:
    """Look at every tensor of a loaded model; of any other network than ours nothing is quantized."""
    entries: list[AuditedTensor] = []
    inside: set[str] = set()
    for name, module in model.named_modules():
        stored = _stored(module)
        if stored is None:
            continue
        inside |= {f"{name}.{own}" for own, _ in module.named_parameters()}
        block, kind = place(name) or (None, "other")
        parameters = module.in_features * module.out_features
        entries.append(AuditedTensor(name, kind, block, parameters, layer_bytes(module), stored, True, None))
    for name, parameter in model.named_parameters():
        if name not in inside:
            entries.append(_plain(name, parameter, model, precision, device))
    any_quantized = any(entry.quantized for entry in entries)
    return Audit(tuple(entries), quantized_kernel(precision, device) if any_quantized else NONE)


def quantized_kernel(precision: PrecisionConfig, device: torch.device) -> str:
    """What multiplies the quantized layers, in words."""
    kind, dtype = precision.quantization, precision.base
    if kind == "int8":
        outliers = "fp32" if device.type == "cpu" else "fp16"
        by = ", Triton products" if device.type == "cuda" and runs_own_int8(device) else ""
        return f"bitsandbytes LLM.int8{by}, inputs of {OUTLIER_THRESHOLD} and more in {outliers}"
    if kind in ("nf4", "fp4"):
        scales = "8-bit scales" if precision.double_quantization else "fp32 scales"
        if device.type == "cpu":
            dtype = "float32" if dtype == "float16" else dtype
            return f"bitsandbytes {kind} in blocks of {BLOCK_4BIT}, {scales}, dequantized, multiplied in {dtype}"
        by = PACKED_KERNEL if runs_packed(dtype, device) else "matmul_4bit"
        return f"bitsandbytes {kind} in blocks of {BLOCK_4BIT}, {scales}, {by} in {dtype}"
    if kind in WEIGHT_ONLY:
        if runs_packed(dtype, device):
            return f"{STORED[kind]}, {PACKED_KERNEL} in {dtype}"
        return weight_only_kernel(kind, device, dtype)
    return native_kernel(kind, device)


def layer_bytes(module: nn.Module) -> int:
    """Bytes of a layer's parameters and buffers, and of scales that it keeps outside of them."""
    tensors = [*module.parameters(), *module.buffers()]
    for part in module.modules():
        tensors += state_tensors(part)
    return sum(tensor.nbytes for tensor in tensors)


def _stored(module: nn.Module) -> str | None:
    """How a quantized layer keeps its weights; None for any other module."""
    if isinstance(module, FourBitLinear):
        return str(module.quant_state.quant_type)
    if isinstance(module, RowwiseLinear):
        return str(module.weight_NK.dtype).removeprefix("torch.")
    if isinstance(module, WeightOnlyLinear):
        return f"int{module.bits}"
    if isinstance(module, PackedLinear):
        return module.kind
    if is_llm_int8(module):
        return str(module.weight.dtype).removeprefix("torch.")
    return None


def _plain(
    name: str, parameter: nn.Parameter, model: Network, precision: PrecisionConfig, device: torch.device
) -> AuditedTensor:
    owner = name.rpartition(".")[0]
    module = model.get_submodule(owner)
    parts = name.split(".")
    block, kind = int(parts[1]) if parts[0] == "blocks" else None, "vector"
    why = "vectors stay in fp32, as the arithmetic on them does"
    if isinstance(module, nn.Embedding):
        kind, why = "embedding", "the embedding table is looked up, not multiplied"
    elif not model.quantizable:
        kind, why = "other", "nothing is quantized in this precision"
    elif isinstance(module, nn.Linear):
        block_and_kind = place(owner)
        kind = block_and_kind[1] if block_and_kind else "other"
        blocks = model.config.num_hidden_layers
        why = left_alone(owner, precision, blocks) or unfit_shape(module, device) or "its layer was not replaced"
    elif is_matrix(name, parameter):
        kind, why = "low_rank", "low-rank matrices are small and stay in the base dtype"
    stored = str(parameter.dtype).removeprefix("torch.")
    return AuditedTensor(name, kind, block, parameter.numel(), parameter.nbytes, stored, False, why)


def _groups(entries: Iterable[AuditedTensor], key: str) -> dict[str, list[AuditedTensor]]:
    groups: dict[str, list[AuditedTensor]] = {}
    for entry in entries:
        groups.setdefault(str(getattr(entry, key)), []).append(entry)
    return dict(sorted(groups.items(), key=lambda item: item[0].zfill(4) if item[0].isdigit() else item[0]))


def _sums(entries: list[AuditedTensor]) -> dict[str, float]:
    quantized = [entry for entry in entries if entry.quantized]
    sums = {"layers": float(len(entries)), "parameters": _total(entries, "parameters")}
    sums |= {"bytes": _total(entries, "bytes"), "quantized_parameters": _total(quantized, "parameters")}
    return sums | {"quantized_bytes": _total(quantized, "bytes"), "bits_per_parameter": _bits(entries)}


def _total(entries: Iterable[AuditedTensor], key: str) -> float:
    return float(sum(getattr(entry, key) for entry in entries))


def _share(entries: Iterable[AuditedTensor], key: str) -> float:
    entries = list(entries)
    whole = _total(entries, key)
    return _total((entry for entry in entries if entry.quantized), key) / whole if whole else 0.0


def _bits(entries: Iterable[AuditedTensor]) -> float:
    entries = list(entries)
    whole = _total(entries, "parameters")
    return 8 * _total(entries, "bytes") / whole if whole else 0.0
