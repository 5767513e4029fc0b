"""Which blocks of an RWKV-7 run in inference: fused ones on a CPU (`cpu_forward`) and on a GPU that can
(`triton_forward`), otherwise the plain `blocks`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import torch
from torch import Tensor

from rwkv_sweep.models.common.gpu_forward import gpu_unsupported
from rwkv_sweep.models.rwkv7.blocks import Block


def why_not(blocks: Sequence[Block], read: Tensor) -> str | None:
    """Why these blocks do not run fused on what lies where `read` does, in a few words; None where they do."""
    device = read.device
    if device.type not in ("cpu", "cuda"):
        return f"device {device.type}"
    if torch.is_autocast_enabled(device.type) or (torch.is_grad_enabled() and blocks[0].ln1.weight.requires_grad):
        return "training"
    return unsupported(blocks, device) if device.type == "cuda" else None


def path_tags(blocks: Sequence[Block], device: torch.device) -> dict[str, str]:
    """What runs the blocks and the WKV operator in inference on `device`, for the record."""
    if device.type == "cpu":
        return {"blocks": f"fused (numba {version('numba')})", "wkv": "fused"}
    reason = unsupported(blocks, device) if device.type == "cuda" else f"device {device.type}"
    if reason is not None:
        return {"blocks": f"PyTorch ({reason})", "wkv": "chunked"}
    import triton

    return {"blocks": f"fused (triton {triton.__version__})", "wkv": "fused"}


def unsupported(blocks: Sequence[Block], device: torch.device) -> str | None:
    """Why inference on this GPU takes the plain blocks, in a few words; None where it takes the fused ones."""
    norm = blocks[0].attention.ln_x
    return gpu_unsupported(norm.num_channels // norm.num_groups, device)
