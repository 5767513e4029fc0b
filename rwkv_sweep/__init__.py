"""Sweeps over the hidden layers of RWKV models as sentence embeddings: what they are worth and what they cost."""

__version__ = "0.1.0"
