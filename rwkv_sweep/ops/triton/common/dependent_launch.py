"""Kernels that start while the one before them ends (programmatic dependent launch, from compute capability 9.0).

A pair's forward is hundreds of kernels of a few microseconds, and between two of them the GPU is idle for about one. A
kernel launched with `launch_pdl=True` may start as soon as every program of the one before has called
`launch_dependents` or ended. It must call `wait_for_earlier` before it reads what others wrote, or writes what others
may read; that returns when the one before has ended and its results can be seen. Weights may be fetched before.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl


@functools.cache
def can_depend(device: torch.device) -> bool:
    """Whether this GPU has programmatic dependent launch."""
    return torch.cuda.get_device_capability(device) >= (9, 0)


@triton.jit
def launch_dependents():
    """Let the next kernel start when every program has come here or ended, as PTX's `griddepcontrol` says; of any dtype
    of tensors."""
    tl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; // $0", "=r", [], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def wait_for_earlier():
    """Wait until the kernel before has ended and its results can be seen, as PTX's `griddepcontrol` says; of any dtype
    of tensors."""
    tl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], dtype=tl.int32, is_pure=False, pack=1)
