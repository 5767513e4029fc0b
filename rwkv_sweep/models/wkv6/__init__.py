"""The WKV-6 operator in PyTorch: a reference, and the chunked form tested against it. Fused blocks have their own."""

from __future__ import annotations

from torch import Tensor

from rwkv_sweep.models.packed import Packed
from rwkv_sweep.models.wkv6.chunked import wkv6_chunked
from rwkv_sweep.models.wkv6.reference import wkv6_reference

__all__ = ["wkv6", "wkv6_chunked", "wkv6_reference"]


def wkv6(
    r_THK: Tensor,
    k_THK: Tensor,
    v_THV: Tensor,
    log_w_THK: Tensor,
    u_HK: Tensor,
    packed: Packed,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """What the plain blocks use: chunks of matrix products. Arguments and result as `wkv6_reference`, in fp32."""
    return wkv6_chunked(r_THK, k_THK, v_THV, log_w_THK, u_HK, packed, chunk)
