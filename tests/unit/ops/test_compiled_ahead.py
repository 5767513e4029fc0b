"""Kernels compiled ahead: launches compile and do not run, by the executor, and come back as they were."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from rwkv_sweep.ops.triton.common.ahead import compiled_ahead

GPU = torch.device("cuda", 0)


class MadeUpKernel:
    """Stands for Triton's JITFunction, and for what it compiles to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.compiled_by, self.loaded, self.launched = fails, "", False, 0

    def run(self, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        if not self.compiled_by:
            AsyncCompileMode.active.submit(self._compile)
        self.launched += not warmup

    def _compile(self) -> MadeUpKernel | Loaded:
        self.compiled_by = threading.current_thread().name
        return Loaded(self)


class Loaded:
    def __init__(self, kernel: MadeUpKernel) -> None:
        self._kernel = kernel

    @property
    def run(self) -> None:
        if self._kernel.fails:
            raise RuntimeError("out of shared memory")
        self._kernel.loaded = True


class AsyncCompileMode:
    active: Any = None

    def __init__(self, executor: Any, *, ignore_errors: bool) -> None:
        self._executor, self._futures = executor, []

    def submit(self, compile_kernel: Callable[[], Any]) -> None:
        self._futures.append(self._executor.submit(compile_kernel))

    def __enter__(self) -> None:
        AsyncCompileMode.active = self

    def __exit__(self, *_: object) -> None:
        for future in self._futures:
            future.result()


@pytest.fixture
def made_up_triton(monkeypatch: pytest.MonkeyPatch) -> type[MadeUpKernel]:
    modules = {name: ModuleType(name) for name in ("triton", "triton.runtime", "triton.runtime.jit")}
    asynchronous = ModuleType("triton.runtime._async_compile")
    modules["triton.runtime.jit"].JITFunction = MadeUpKernel  # type: ignore[attr-defined]
    asynchronous.AsyncCompileMode = AsyncCompileMode  # type: ignore[attr-defined]
    for name, module in {**modules, asynchronous.__name__: asynchronous}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    return MadeUpKernel


def test_launches_compile_and_do_not_run(made_up_triton: type[MadeUpKernel]) -> None:
    whole, damaged = made_up_triton(), made_up_triton(fails=True)
    run = made_up_triton.run
    with compiled_ahead(GPU):
        for kernel in (whole, damaged):
            kernel.run(1, grid=(1,), warmup=False)
    assert whole.compiled_by.startswith("compile") and whole.loaded and not whole.launched
    assert not damaged.loaded and not damaged.launched
    assert made_up_triton.run is run


def test_launches_come_back_after_an_error(made_up_triton: type[MadeUpKernel]) -> None:
    run = made_up_triton.run
    with pytest.raises(KeyError), compiled_ahead(GPU):
        raise KeyError
    assert made_up_triton.run is run


def test_an_older_triton_compiles_nothing_ahead(
    made_up_triton: type[MadeUpKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "triton.runtime._async_compile", None)
    kernel = made_up_triton()
    with compiled_ahead(GPU):
        kernel.run(1, grid=(1,), warmup=False)
    assert not kernel.compiled_by and not kernel.launched
