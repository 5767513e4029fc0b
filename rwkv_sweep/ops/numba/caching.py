"""Compiled Numba kernels on disk: where they are kept, and what happens where they cannot be.

Numba keeps them beside the sources or in the user's cache folder, and refuses to compile where it can write neither.
Here they then go to this user's temporary folder, or nowhere. Whatever is wrong with a cache (a full disk, half a file,
another user's), the kernels are compiled all the same.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache

from rwkv_sweep.errors import first_line
from rwkv_sweep.utils.console import log_line
from rwkv_sweep.utils.user_folders import temporary_folder


def cached(dispatcher: Any) -> Any:
    """The same function of `numba.njit`, with its compiled forms kept on disk where there is a place for them."""
    cache = _cache(dispatcher.py_func)
    if cache is not None:
        dispatcher._cache = cache
    return dispatcher


class _ForgivingCache(FunctionCache):
    """A cache of Numba that counts what it cannot read as absent, and leaves what it cannot write."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        loaded = None
        try:
            loaded = super().load_overload(sig, target_context)
        except Exception as error:  # half a pickle raises nearly anything
            _report("compiled Numba kernels cannot be read from", str(self.cache_path), first_line(error))
        if loaded is None:
            _report_compiling()
        return loaded

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _report("compiled Numba kernels cannot be kept in", str(self.cache_path), first_line(error))


def _cache(function: Callable[..., Any]) -> FunctionCache | None:
    """The cache of a function of this package; None where no folder for it can be written."""
    if (cache := _in_numbas_places(function)) is not None:
        return cache
    folder = temporary_folder()
    if folder is not None:
        # For the processes of single jobs too.
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(folder / "numba")  # type: ignore[attr-defined]
        if (cache := _in_numbas_places(function)) is not None:
            _report("compiled Numba kernels are kept in", str(folder / "numba"), "their usual places cannot be written")
            return cache
    _report(
        "compiled Numba kernels are kept",
        "nowhere",
        "no place for them can be written: each process compiles them anew",
    )
    return None


def _in_numbas_places(function: Callable[..., Any]) -> FunctionCache | None:
    try:
        return _ForgivingCache(function)
    except (RuntimeError, OSError):
        return None


@functools.cache
def _report(what: str, folder: str, why: str) -> None:
    """Once in a process."""
    log_line(f"{what} {folder} ({why})")


@functools.cache
def _report_compiling() -> None:
    log_line("compiling the CPU's Numba kernels, which are not in their cache yet: up to half a minute, once")
