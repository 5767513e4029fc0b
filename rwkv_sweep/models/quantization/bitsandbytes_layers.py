"""Linear layers by bitsandbytes: LLM.int8 (arXiv 2208.07339), and 4-bit nf4 and fp4 (arXiv 2305.14314).

The library is imported only where a precision needs it. Weights are quantized once, here, from the file's values; its
own 4-bit module is not used, as that one lays its weights out anew, with coarser scales, when it first runs on a CPU.

Shapes: N outputs, K inputs of a linear layer.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.errors import UnsupportedError
from rwkv_sweep.models.quantization.dtypes import check_fits
from rwkv_sweep.ops.common import onednn
from rwkv_sweep.ops.common.availability import triton_missing

OUTLIER_THRESHOLD = 6.0
"""LLM.int8: input columns with an entry of at least this size are multiplied in fp16."""
BLOCK_4BIT = 64
"""Weights that share one scale in nf4 and fp4, along a row."""


class FourBitLinear(nn.Module):
    """A linear layer whose weights are 4-bit codes with a scale for each 64; products run in the dtype of the base."""

    def __init__(self, linear: nn.Linear, kind: str, double: bool, base: torch.dtype, device: torch.device) -> None:
        """kind: `nf4` or `fp4`. double: quantize the scales too, to 8 bits in groups of 256. base: of the products."""
        super().__init__()
        self.in_features, self.out_features, self.base = linear.in_features, linear.out_features, base
        self._library = load_bitsandbytes().functional
        weight = linear.weight.data.to(device, torch.float32).contiguous()
        if device.type == "cpu":
            # In one row: the library's CPU kernel starts a new scale with each row when it turns codes back, and its
            # quantization does not, so rows that are no multiple of 64 would get their neighbours' scales.
            weight = weight.view(-1)
        packed, self.quant_state = self._library.quantize_4bit(
            weight, blocksize=BLOCK_4BIT, compress_statistics=double, quant_type=kind
        )
        # What the codes are turned back into; the state would keep the dtype of what was quantized.
        self.quant_state.dtype = base
        self.register_buffer("packed", packed)

    def dequantized(self) -> Tensor:
        """The weights [out, in] that the codes stand for, in the base dtype."""
        weight = self._library.dequantize_4bit(self.packed, self.quant_state)
        return weight.view(self.out_features, self.in_features)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] of any dtype to [..., out] in the base dtype (fp32 on a CPU where the base is fp16)."""
        x = input.to(self.base)
        if x.device.type == "cpu":
            weight = self.dequantized()
            bf16 = self.base == torch.bfloat16
            return F.linear(x, weight) if bf16 else onednn.matmul_fp32(x.float(), weight.float())
        return load_bitsandbytes().matmul_4bit(x, self.packed, self.quant_state)


def int8_linear(name: str, linear: nn.Linear, device: torch.device) -> nn.Module:
    """LLM.int8's layer with int8 rows and one fp32 scale per row, quantized here and now.

    Raises:
        UserError: a weight is too large for fp16, which the library quantizes from.
    """
    library = load_bitsandbytes()
    modules = library.nn
    check_fits(name, linear.weight)
    kind = modules.Linear8bitLt
    if device.type == "cpu":
        from rwkv_sweep.models.quantization.llm_int8_cpu import CpuLinear8bit as kind  # imports the library
    elif runs_own_int8(device):
        from rwkv_sweep.models.quantization.llm_int8_gpu import GpuLinear8bit as kind
    int8 = kind(
        linear.in_features,
        linear.out_features,
        bias=False,
        has_fp16_weights=False,
        threshold=OUTLIER_THRESHOLD,
        device="meta",
    )
    # The parameter's own `to` quantizes only what comes from a CPU.
    weight = linear.weight.data.to(device, torch.float16).contiguous()
    quantize = rows_in_int8 if device.type == "cpu" else library.functional.int8_vectorwise_quant
    rows_NK, amax_N, _ = quantize(weight)
    int8.weight = modules.Int8Params(rows_NK, requires_grad=False, has_fp16_weights=False, CB=rows_NK, SCB=amax_N)
    # Hands rows and scales to the layer's state, which its first forward would do otherwise.
    int8.init_8bit_state()
    # bitsandbytes tells of its rounding of other dtypes to fp16 and back at every call.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return int8.eval()


def rows_in_int8(weight_NK: Tensor) -> tuple[Tensor, Tensor, None]:
    """The same as the library's `int8_vectorwise_quant` of an fp16 matrix on a CPU, whose first call imports PyTorch's
    compiler, which takes a second: int8 rows, the largest size in each as fp32, and None."""
    amax_N = weight_NK.abs().amax(dim=1).float()
    return torch.round(weight_NK * (127.0 / amax_N[:, None])).to(torch.int8), amax_N, None


def state_tensors(module: nn.Module) -> list[Tensor]:
    """Scales and tables that a layer of this library keeps outside of parameters and buffers."""
    if isinstance(module, FourBitLinear):
        state = module.quant_state
        nested = [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
        return [state.absmax, state.code, *nested]
    scales = getattr(getattr(module, "state", None), "SCB", None)
    return [scales] if isinstance(scales, Tensor) else []


def is_llm_int8(module: nn.Module) -> bool:
    """Whether this is a layer that `int8_linear` made; imports nothing."""
    kinds = type(module).__mro__
    return any(kind.__name__ == "Linear8bitLt" and kind.__module__.startswith("bitsandbytes.") for kind in kinds)


def runs_own_int8(device: torch.device) -> bool:
    """Whether LLM.int8 runs in our kernels on this GPU, and not in the library's."""
    return torch.cuda.get_device_capability(device) >= (8, 0) and triton_missing() is None


def needs_host(model: nn.Module) -> str | None:
    """Which layers of `model` make the host wait for the device in a forward, so that no CUDA graph can hold it, in a
    few words; None where there are none."""
    if any(is_llm_int8(module) and not hasattr(module, "stays_on_device") for module in model.modules()):
        return "LLM.int8 of bitsandbytes reads its outlier columns on the host"
    return None


def load_bitsandbytes() -> Any:
    """The library, imported only where it is needed: it looks for GPU libraries when it is.

    Raises:
        UnsupportedError: it is not installed, or does not load.
    """
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    # On the CPU the import warns of a missing kernel for 4-bit products, which nothing here uses.
    logger.setLevel(logging.ERROR)
    try:
        with _compiling_at_first_call():
            import bitsandbytes
    except ImportError as error:
        raise UnsupportedError(
            f"int8, nf4 and fp4 need bitsandbytes ({error}): run pip install 'rwkv-sweep[quantization]', or choose "
            "precision.quantization=none, int8_dynamic, fp8, int8_weight or int4"
        ) from error
    finally:
        logger.setLevel(level)
    return bitsandbytes


@contextlib.contextmanager
def _compiling_at_first_call() -> Iterator[None]:
    """Within it `torch.compile` only notes what to compile, and does so when that is first called.

    bitsandbytes decorates functions of its optimizers and of devices without kernels with it. The decorator alone
    imports TorchDynamo, Inductor and SymPy, which takes seconds, and no layer here calls these functions on a GPU.
    """
    compile_now: Any = torch.compile

    def compile_later(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function is None:
            return functools.partial(compile_later, **options)
        compiled = functools.cache(lambda: compile_now(function, **options))

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return compiled()(*args, **kwargs)

        return call

    library: Any = torch
    library.compile = compile_later
    try:
        yield
    finally:
        library.compile = compile_now
