"""The WKV-6 operator in PyTorch: a reference, and the chunked form of the plain blocks. Fused blocks have their own."""

from __future__ import annotations

from rwkv_sweep.ops.wkv6.chunk import wkv6_chunked
from rwkv_sweep.ops.wkv6.naive import wkv6_reference

__all__ = ["wkv6_chunked", "wkv6_reference"]
