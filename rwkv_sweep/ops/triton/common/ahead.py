"""Kernels compiled ahead of need, several at once.

Triton compiles a kernel when it is first launched, one after another, each for seconds. Here a forward is run through
once with launches that compile and do not run, and threads compile all that it asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

MOST_THREADS = 16


@contextlib.contextmanager
def compiled_ahead(device: torch.device) -> Iterator[None]:
    """Within it Triton's kernels are compiled for `device` and not run; at its end all of them are compiled and loaded.

    What a kernel would have written is undefined, so nothing computed within may be used. A kernel that cannot be
    compiled is left to its first launch, which reports why. Without Triton's own asynchronous compiling (before 3.5)
    nothing is compiled ahead, and launches do nothing.
    """
    from triton.runtime.jit import JITFunction

    launch = JITFunction.run
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = ThreadPoolExecutor(min(MOST_THREADS, cores), "compile", torch.cuda.set_device, (device,))

    def compile_only(kernel: Any, *args: Any, **options: Any) -> Any:
        return launch(kernel, *args, **options | {"warmup": True})

    with threads, _asynchronous(_Loading(threads)) as possible:
        JITFunction.run = compile_only if possible else _nothing
        try:
            yield
        finally:
            JITFunction.run = launch


def _nothing(kernel: Any, *args: Any, **options: Any) -> None:
    """In place of a launch."""


@contextlib.contextmanager
def _asynchronous(executor: _Loading) -> Iterator[bool]:
    """Triton's mode in which kernels are compiled by an executor; whether this version has it."""
    try:
        from triton.runtime._async_compile import AsyncCompileMode
    except ImportError:
        yield False
        return
    with AsyncCompileMode(executor, ignore_errors=True):
        yield True


class _Loading:
    """An executor that also loads what was compiled onto the device, for which Triton compiles a launcher in C."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def submit(self, compile_kernel: Callable[[], Any]) -> Future[Any]:
        """See `concurrent.futures.Executor`."""
        return self._threads.submit(self._loaded, compile_kernel)

    @staticmethod
    def _loaded(compile_kernel: Callable[[], Any]) -> Any:
        kernel = compile_kernel()
        with contextlib.suppress(Exception):  # its first launch meets the same error, and reports it
            _ = kernel.run
        return kernel
