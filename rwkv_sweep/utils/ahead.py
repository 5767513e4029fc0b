"""The next piece of work prepared while this one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def one_ahead(function: Callable[[Argument], Result], arguments: Iterable[Argument]) -> Iterator[Result]:
    """`map(function, arguments)`, where a thread computes the next result while the caller uses this one.

    Raises:
        whatever `function` raises, when the caller asks for that result.
    """
    with ThreadPoolExecutor(1) as thread:
        pending: Future[Result] | None = None
        for argument in arguments:
            following = thread.submit(function, argument)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
