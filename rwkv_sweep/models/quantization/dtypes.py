"""What the weights become in a plain precision, and the linear layers whose arithmetic differs from their dtype."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rwkv_sweep.errors import UserError
from rwkv_sweep.ops.common import onednn

TF32 = "tfloat32"
DTYPES = {"float32": torch.float32, TF32: torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHORT_NAMES = {"float32": "fp32", TF32: "tf32", "bfloat16": "bf16", "float16": "fp16"}


class CpuLinear(nn.Linear):
    """A linear layer of a CPU with fp32 or fp16 weights; the arithmetic is in fp32, as in `blocks.matmul`."""

    only_multiplies = True

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] of any dtype, rounded to that of the weights, to [..., out] in fp32."""
        return onednn.matmul_fp32(input.to(self.weight.dtype).float(), self.weight.float())


class Tf32Linear(nn.Linear):
    """A linear layer of a GPU with fp32 weights, multiplied by its TF32 units (10 bits of mantissa)."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] to [..., out], both fp32."""
        # The switch is global: it is on for this product alone, so that the WKV operator's products stay fp32.
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return F.linear(input, self.weight)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before


def plain_linear(linear: nn.Linear, base: str, device: torch.device) -> nn.Linear:
    """The layer that multiplies these weights (converted already) in this base dtype on this device."""
    kind: type[nn.Linear] = nn.Linear
    if base == TF32:
        kind = Tf32Linear
    elif base in ("float32", "float16") and device.type == "cpu":
        kind = CpuLinear
        linear.weight.data = onednn.laid_out(linear.weight.data)
    if kind is nn.Linear:
        return linear
    layer = kind(linear.in_features, linear.out_features, bias=False, device="meta")
    layer.weight = linear.weight
    return layer.eval()


def plain_kernel(base: str, device: torch.device) -> str:
    """What multiplies in a plain linear layer, in words."""
    by = f" by {onednn.library()}" if device.type == "cpu" and onednn.library() else ""
    if base == "float16" and device.type == "cpu":
        return f"fp32 arithmetic{by} on fp16 weights and inputs"
    if base == TF32:
        return "linear layers in TF32, low-rank matrices in fp32"
    return {"float32": f"fp32 without TF32{by}", "bfloat16": "bf16", "float16": "fp16"}[base]


def is_matrix(name: str, weight: Tensor) -> bool:
    """Two dimensions and more. The mixes [1, 1, D] are vectors, and so is the bonus, though written [heads, size]."""
    return sum(size > 1 for size in weight.shape) > 1 and not name.endswith("time_faaaa")


def converted(name: str, weight: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A copy of `weight` in `dtype` on `device`; it is copied there as it is, and converted there.

    Raises:
        UserError: an entry is too large for fp16.
    """
    placed = weight.to(device)
    if dtype == torch.float16:
        check_fits(name, placed)
    return placed.to(dtype, copy=placed is weight)


def check_fits(name: str, weight: Tensor) -> None:
    """Raises UserError where an entry of `weight` is too large for fp16."""
    low, high = torch.aminmax(weight)
    largest = max(-float(low), float(high))
    if largest > torch.finfo(torch.float16).max:
        raise UserError(
            f"{name} has an entry of size {largest:g}, too large for float16: valid is precision=bf16 or fp32"
        )


def linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Name and module of every linear layer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
