"""The precision a model runs in: dtypes of its weights, and int8 by bitsandbytes.

Matrices (linear layers, low-rank matrices, embedding) get the base dtype; vectors (norms, mixes, decays, bonus) stay
fp32, as the arithmetic on them does. fp32 products never use TF32, in any precision: the WKV operator runs in fp32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rwkv_sweep.config import PrecisionConfig, require_one_of
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.rwkv6 import ChannelMix, Rwkv6Model, matmul
from rwkv_sweep.models.wkv6 import wkv6_kernel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHORT_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}

OUTLIER_THRESHOLD = 6.0
"""LLM.int8: input columns with an entry of at least this size are multiplied in fp16 (arXiv 2208.07339)."""


class HalfLinear(nn.Linear):
    """A linear layer with fp16 weights on the CPU, where `rwkv6.matmul` does the arithmetic in fp32."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] of any dtype, rounded to fp16, to [..., out] in fp32."""
        return matmul(input, self.weight.t())


def check_precision(precision: PrecisionConfig, device: torch.device) -> None:
    """Say early what `apply_precision` could not do.

    Raises:
        UserError: the device is not there or cannot run this precision, the precision is not known, or bitsandbytes is
            missing.
    """
    require_one_of("precision.base", precision.base, tuple(DTYPES))
    require_one_of("precision.quantization", precision.quantization, ("none", "int8"))
    require_one_of("device.type", device.type, ("cpu", "cuda"))
    capability = _capability(device)
    if precision.base == "bfloat16" and capability < (8, 0):
        raise UserError(
            f"precision.base=bfloat16 needs a GPU of compute capability 8.0, and {device} has "
            f"{capability[0]}.{capability[1]}: valid there are float32 and float16"
        )
    if precision.quantization == "int8":
        if precision.base != "float16":
            raise UserError(f"precision.quantization=int8 with precision.base={precision.base}: valid is float16")
        if capability < (7, 5):
            raise UserError(
                f"precision.quantization=int8 needs a GPU of compute capability 7.5, and {device} has "
                f"{capability[0]}.{capability[1]}: valid there is none"
            )
        _bitsandbytes()


def apply_precision(model: Rwkv6Model, precision: PrecisionConfig, device: torch.device) -> dict[str, str]:
    """Convert a freshly loaded model in place and move it to `device`, tensor by tensor.

    Every tensor is copied, so none stays mapped from a file. Returns tags that say what runs: `precision`, `matmul`
    and `wkv`.

    Raises:
        UserError: see `check_precision`; or a weight is too large for fp16.
    """
    check_precision(precision, device)
    torch.set_float32_matmul_precision("highest")
    base, quantized = DTYPES[precision.base], precision.quantization == "int8"
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if not (quantized and _is_linear_weight(model, name)):
            parameter.data = _converted(
                name, parameter.data, base if _is_matrix(name, parameter) else torch.float32, device
            )
    for name, linear in list(_linears(model)):
        if quantized:
            _replace(model, name, _int8_linear(name, linear, device))
        elif base == torch.float16 and device.type == "cpu":
            _replace(model, name, _half_linear(linear))
    for module in model.modules():
        if isinstance(module, ChannelMix):
            module.matmul_dtype = base
    return {
        "precision": "int8" if quantized else SHORT_NAMES[precision.base],
        "matmul": _describe(precision, device),
        "wkv": wkv6_kernel(device),
    }


def weights_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, and of the scales that int8 layers keep beside their weights."""
    tensors = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        scales = getattr(getattr(module, "state", None), "SCB", None)
        if isinstance(scales, Tensor):
            tensors.append(scales)
    return sum(tensor.nbytes for tensor in tensors)


def _describe(precision: PrecisionConfig, device: torch.device) -> str:
    half = "fp32 arithmetic on fp16 weights and inputs" if device.type == "cpu" else "fp16"
    if precision.quantization == "int8":
        dtype = "fp32" if device.type == "cpu" else "fp16"
        rows = f"int8 linear layers (bitsandbytes LLM.int8, inputs of {OUTLIER_THRESHOLD} and more in {dtype})"
        return f"{rows}; low-rank matrices: {half}"
    if precision.base == "float16":
        return half
    return "bf16" if precision.base == "bfloat16" else "fp32 without TF32"


def _capability(device: torch.device) -> tuple[int, int]:
    """Compute capability of a GPU; the CPU runs everything and stands above them all."""
    if device.type == "cpu":
        return (99, 0)
    if not torch.cuda.is_available():
        raise UserError(f"device.type=cuda, but torch {torch.__version__} finds no GPU here: valid is device=cpu")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise UserError(f"device.index={device.index} is not there: this machine has GPUs 0 to {count - 1}")
    return torch.cuda.get_device_capability(device)


def _is_matrix(name: str, weight: Tensor) -> bool:
    """Two dimensions and more. The mixes [1, 1, D] are vectors, and so is the bonus, though written [heads, size]."""
    return sum(size > 1 for size in weight.shape) > 1 and not name.endswith("time_faaaa")


def _converted(name: str, weight: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if dtype == torch.float16:
        _check_fits(name, weight)
    return weight.to(device, dtype, copy=True)


def _check_fits(name: str, weight: Tensor) -> None:
    low, high = torch.aminmax(weight)
    largest = max(-float(low), float(high))
    if largest > torch.finfo(torch.float16).max:
        raise UserError(
            f"{name} has an entry of size {largest:g}, too large for float16: valid is precision=bf16 or fp32"
        )


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))


def _is_linear_weight(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Linear)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _half_linear(linear: nn.Linear) -> HalfLinear:
    half = HalfLinear(linear.in_features, linear.out_features, bias=False, device="meta")
    half.weight = linear.weight
    return half.eval()


def _int8_linear(name: str, linear: nn.Linear, device: torch.device) -> nn.Module:
    """The layer with int8 rows and one fp32 scale per row, quantized here and now."""
    nn_bnb = _bitsandbytes().nn
    _check_fits(name, linear.weight)
    int8 = nn_bnb.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=False,
        has_fp16_weights=False,
        threshold=OUTLIER_THRESHOLD,
        device="meta",
    )
    int8.weight = nn_bnb.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False).to(device)
    # Hands rows and scales to the layer's state, which its first forward would do otherwise.
    int8.init_8bit_state()
    if device.type == "cpu":
        # The columns with outliers are multiplied in the dtype of the input, and fp16 products are slow on a CPU: with
        # fp32 inputs the whole model runs twice as fast. bitsandbytes tells of its own rounding back at every call.
        int8.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return int8.eval()


def _bitsandbytes() -> Any:
    """The library, imported only where it is needed: it looks for GPU libraries when it is."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    # On the CPU the import warns of a missing kernel for 4-bit products, which nothing here uses.
    logger.setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError(
            f"precision.quantization=int8 needs bitsandbytes ({error}): run pip install bitsandbytes, "
            "or set precision.quantization=none"
        ) from error
    finally:
        logger.setLevel(level)
    return bitsandbytes
