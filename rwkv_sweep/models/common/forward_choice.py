"""Which blocks of an RWKV run in inference: those with Numba kernels on a CPU, those with Triton kernels on a GPU that
can, otherwise the plain ones in PyTorch, which are the reference of both and train."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.models.common.gpu_forward import gpu_unsupported


def why_not(blocks: Sequence[Any], read: Tensor, head_size: int) -> str | None:
    """Why these blocks do not run fused on what is on the device of `read`, in a few words; None where they do."""
    device = read.device
    if device.type not in ("cpu", "cuda"):
        return f"device {device.type}"
    if torch.is_autocast_enabled(device.type) or (torch.is_grad_enabled() and blocks[0].ln1.weight.requires_grad):
        return "training"
    return gpu_unsupported(head_size, device) if device.type == "cuda" else None


def path_tags(head_size: int, device: torch.device, plain_wkv: str) -> dict[str, str]:
    """What runs the blocks and the WKV operator in inference on `device`, for the record.

    Args:
        plain_wkv: what runs the operator in the plain blocks.
    """
    if device.type == "cpu":
        return {"blocks": f"fused (numba {version('numba')})", "wkv": "fused"}
    reason = gpu_unsupported(head_size, device) if device.type == "cuda" else f"device {device.type}"
    if reason is not None:
        return {"blocks": f"PyTorch ({reason})", "wkv": plain_wkv}
    import triton

    return {"blocks": f"fused (triton {triton.__version__})", "wkv": "fused"}
