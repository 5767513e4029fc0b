"""The WKV-6 operator: one reference and the fast paths tested against it."""

from __future__ import annotations

import torch
from torch import Tensor

from rwkv_sweep.models.packed import Packed
from rwkv_sweep.models.wkv6.chunked import wkv6_chunked
from rwkv_sweep.models.wkv6.reference import wkv6_reference

__all__ = ["wkv6", "wkv6_chunked", "wkv6_kernel", "wkv6_reference"]


def wkv6(
    r_THK: Tensor,
    k_THK: Tensor,
    v_THV: Tensor,
    log_w_THK: Tensor,
    u_HK: Tensor,
    packed: Packed,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The fastest path for these inputs: see `wkv6_kernel`. Arguments and result as `wkv6_reference`, in fp32."""
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (r_THK, k_THK, v_THV, log_w_THK, u_HK))
    if wkv6_kernel(r_THK.device) == "native" and not needs_grad:
        from rwkv_sweep.models.wkv6.native import wkv6_native  # imports Numba, which training and GPUs do without

        return wkv6_native(r_THK, k_THK, v_THV, log_w_THK, u_HK, packed)
    return wkv6_chunked(r_THK, k_THK, v_THV, log_w_THK, u_HK, packed, chunk)


def wkv6_kernel(device: torch.device) -> str:
    """Which path inference takes on a device: `native` (Numba) on the CPU, `chunked` (PyTorch) elsewhere."""
    return "native" if device.type == "cpu" else "chunked"
