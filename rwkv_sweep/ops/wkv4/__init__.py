"""The WKV-4 operator in PyTorch: a reference, and a parallel scan for the plain blocks."""

from __future__ import annotations

from rwkv_sweep.ops.wkv4.naive import wkv4_reference
from rwkv_sweep.ops.wkv4.scan import wkv4_scan

__all__ = ["wkv4_reference", "wkv4_scan"]
