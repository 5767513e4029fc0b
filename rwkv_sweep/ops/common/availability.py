"""Which kernels can be made on this machine."""

from __future__ import annotations

import functools
import logging

log = logging.getLogger(__name__)


@functools.cache
def triton_missing() -> str | None:
    """Why Triton kernels cannot be made here; None where they can. Logged once."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        log.warning("the GPU runs plain PyTorch, several times slower: Triton cannot be imported (%s)", error)
        return str(error)
    return None
