"""Sweeps over the hidden layers of RWKV models as sentence embeddings: what they are worth and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rwkv_sweep.version import __version__

if TYPE_CHECKING:
    from rwkv_sweep.api import Encoder

__all__ = ["Encoder", "__version__"]


def __getattr__(name: str) -> Any:
    """`Encoder`, imported when it is asked for: the command line's help needs no torch."""
    if name == "Encoder":
        from rwkv_sweep.api import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
