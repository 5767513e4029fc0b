"""How a lack of memory is recognized: PyTorch's CPU allocator and CUDA's libraries report it in words alone."""

from __future__ import annotations

import torch

_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failure is a lack of memory: PyTorch's CPU allocator and CUDA's libraries report it in words alone."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(words in str(error).lower() for words in _WORDS)
