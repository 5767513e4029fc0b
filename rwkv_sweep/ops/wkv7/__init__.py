"""The WKV-7 operator in plain PyTorch: token by token (the reference) and in chunks."""

from __future__ import annotations

from rwkv_sweep.ops.wkv7.chunk import wkv7_chunked
from rwkv_sweep.ops.wkv7.naive import wkv7_naive

__all__ = ["wkv7_chunked", "wkv7_naive"]
