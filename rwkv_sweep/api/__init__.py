"""Sentence vectors in Python, without a sweep: `from rwkv_sweep import Encoder`."""

from rwkv_sweep.api.encoder import Encoder

__all__ = ["Encoder"]
