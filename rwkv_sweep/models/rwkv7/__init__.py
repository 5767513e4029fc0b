"""RWKV-7 ("Goose", arXiv 2503.14456): sizes, blocks, network, checkpoint layouts, random weights."""

from __future__ import annotations

from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config
from rwkv_sweep.models.rwkv7.network import Rwkv7Model

__all__ = ["Rwkv7Config", "Rwkv7Model"]
