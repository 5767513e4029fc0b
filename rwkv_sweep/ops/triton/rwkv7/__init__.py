"""Triton kernels of RWKV-7's time mix: in chunks, and in one piece for short sentences."""
