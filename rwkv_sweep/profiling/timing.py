"""What every timing shares: waiting for the device, keeping the garbage collector out, and a reference for the machine.

The speed of a machine drifts: clocks, heat, other people's work. `MachineReference` is a fixed matrix product that is
timed between the samples of every job, so that jobs that ran minutes apart can be compared by their ratio to it.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator

import torch

CPU_SIZE, GPU_SIZE = 512, 4096
"""Side of the reference's square matrices: 0.27 GFLOP in fp32 on a CPU, 137 GFLOP in bf16 on a GPU."""
SECONDS = {"cpu": 0.03, "cuda": 0.01}
"""A reference sample lasts this long at least: on a GPU short, as a long one heats the card and lowers its clock."""


@contextlib.contextmanager
def frozen_heap() -> Iterator[None]:
    """Within it the garbage collector leaves alone what exists already: walking through a million objects of imported
    libraries takes tens of milliseconds, which would fall on some samples and not on others. What the timed work
    itself leaves behind is collected as ever, inside its time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def synchronize(device: torch.device) -> None:
    """Wait for the device's work, so that a clock read next includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class MachineReference:
    """A square matrix product of fixed size, whose rate is that of the machine at this moment."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._size, dtype = (GPU_SIZE, torch.bfloat16) if device.type == "cuda" else (CPU_SIZE, torch.float32)
        random = torch.Generator(device).manual_seed(0)
        shape = (self._size, self._size)
        self._a, self._b = (torch.randn(shape, generator=random, device=device).to(dtype) for _ in range(2))
        self._out = torch.empty_like(self._a)
        self._products = 1
        self._calibrate()

    @property
    def name(self) -> str:
        """What it is, for the record."""
        kind = "bf16" if self._device.type == "cuda" else "fp32"
        return f"torch.mm {kind} {self._size}x{self._size}x{self._size}"

    def sample(self) -> float:
        """GFLOP/s of one sample."""
        synchronize(self._device)
        start = time.perf_counter()
        for _ in range(self._products):
            torch.mm(self._a, self._b, out=self._out)
        synchronize(self._device)
        return self._products * 2e-9 * self._size**3 / (time.perf_counter() - start)

    def _calibrate(self) -> None:
        """Warm up, and take as many products as fill a sample."""
        for _ in range(3):
            rate = self.sample()
        seconds = SECONDS["cuda" if self._device.type == "cuda" else "cpu"]
        self._products = max(1, min(10_000, round(seconds * rate / (2e-9 * self._size**3))))
