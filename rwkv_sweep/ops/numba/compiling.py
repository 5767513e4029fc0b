"""How Numba kernels are compiled, called, and given what Numba lacks: an exponential that becomes vector
instructions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from rwkv_sweep.ops.numba.caching import cached

# Numba's OpenMP pool would be a second one beside PyTorch's: waiting threads of each spin and take the other's cores.
numba.config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]
_one_at_a_time = threading.Lock()
"""Numba's own pool takes one caller at a time."""

LITTLE = 300_000
"""Numbers of a simple loop that take about as long as waking the other threads."""

# Sums in any order, but NaN and infinity stay what they are.
FAST = {"reassoc", "contract", "arcp", "nsz"}
inlined = numba.njit(fastmath=FAST, error_model="numpy")


@dataclass(frozen=True)
class NumbaKernel:
    """One kernel compiled twice: over several threads, and for one.

    Attributes:
        cost: time a number, as a multiple of that of a simple loop.
    """

    together: Callable[..., None]
    alone: Callable[..., None]
    cost: float


def compiled(kernel: Callable[..., None], cost: float = 1, fastmath: Any = FAST) -> NumbaKernel:
    """The kernel as `call` takes it; `numba.prange` marks what threads may share."""
    options: dict[str, Any] = {"fastmath": fastmath, "error_model": "numpy"}
    # A name of its own: Numba's cache distinguishes functions by name and line, not by how they are compiled.
    single: Any = FunctionType(kernel.__code__, kernel.__globals__, kernel.__name__, None, kernel.__closure__)
    single.__qualname__ = f"{kernel.__qualname__}_alone"
    return NumbaKernel(
        cached(numba.njit(parallel=True, **options)(kernel)), cached(numba.njit(**options)(single)), cost
    )


def exactly(cost: float) -> Callable[[Callable[..., None]], NumbaKernel]:
    """As `compiled`, with every operation rounded as it is written."""
    return lambda kernel: compiled(kernel, cost, fastmath=False)


def call(kernel: NumbaKernel, *arguments: Tensor | float | bool) -> None:
    """Run a kernel, on one thread where there is little to do, else with as many as PyTorch has, so that
    `device.threads` rules both.

    Args:
        kernel: what `compiled` made.
        arguments: tensors are handed over as arrays of the same memory, so they must be contiguous and on the CPU;
            those of bf16 as their bits, see `bf16`.
    """
    arrays = [array_of(x) if isinstance(x, Tensor) else x for x in arguments]
    launch(kernel, max(x.size for x in arrays if isinstance(x, np.ndarray)), *arrays)


def launch(kernel: NumbaKernel, size: int, *arrays: Any) -> None:
    """As `call`, for arguments that are arrays already; size: numbers of the largest of them."""
    work = kernel.cost * size
    threads = 1 if work < LITTLE else min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads == 1:
        kernel.alone(*arrays)
        return
    with _one_at_a_time:
        numba.set_num_threads(threads)
        kernel.together(*arrays)


def array_of(x: Tensor) -> Any:
    """The tensor's memory; `detach` only where it is needed, since there are a thousand of these in a forward."""
    if x.dtype == torch.bfloat16:
        x = x.view(torch.uint16)
    return x.detach().numpy() if x.requires_grad else x.numpy()


@intrinsic
def as_float(context: Any, bits: Any) -> Any:
    """The fp32 number with these 32 bits."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


ONE = np.float32(1)
LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
LARGEST, SMALLEST = np.float32(88), np.float32(-87)
ROUND_UP = np.float32(127.5)
C0, C1, C2, C3, C4, C5 = (
    np.float32(c)
    for c in (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4)
)
"""Of e^f for |f| up to half of ln 2, from Cephes' expf (Moshier)."""


@inlined
def exp32(x: Any) -> Any:
    """exp(x) in fp32 to 2e-7, between e^-87 and e^88; NaN for NaN."""
    x = LARGEST if x > LARGEST else x
    x = SMALLEST if x < SMALLEST else x
    power = np.int32(np.int32(x * LOG2_E + ROUND_UP) - np.int32(127))
    n = np.float32(power)
    f = x - n * LN2_HIGH - n * LN2_LOW
    p = ((((C5 * f + C4) * f + C3) * f + C2) * f + C1) * f + C0
    return (p * f * f + f + ONE) * as_float(np.int32((power + np.int32(127)) << np.int32(23)))  # type: ignore[call-arg]


@inlined
def sigmoid32(x: Any) -> Any:
    """sigmoid(x) = 1 / (1 + exp(-x)), fp32."""
    return ONE / (ONE + exp32(-x))
