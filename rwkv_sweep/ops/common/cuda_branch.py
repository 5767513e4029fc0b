"""Work beside the main line of a CUDA graph, for kernels too small to fill the GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

MOST_PENDING = 2
"""Pieces of work whose inputs are kept alive; the main line waits for older ones, which have long been done."""


class Branch:
    """A second line of work while a graph is being captured; in line at all other times, where memory that two streams
    share would have to be guarded at every launch."""

    def __init__(self, device: torch.device) -> None:
        self._capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        self._pending: deque[tuple[torch.cuda.Event, object]] = deque()
        if self._capturing:
            self._main = torch.cuda.current_stream(device)
            self._stream = torch.cuda.Stream(device)

    def run(self, work: Callable[[], Result], reads: object = None) -> Result:
        """Start `work` behind all that the main line has been given so far; `reads` lives until it is done."""
        if not self._capturing:
            return work()
        self._stream.wait_stream(self._main)
        with torch.cuda.stream(self._stream):
            result = work()
            event = torch.cuda.Event()
            event.record(self._stream)
        self._pending.append((event, reads))
        while len(self._pending) > MOST_PENDING:
            self._main.wait_event(self._pending.popleft()[0])
        return result

    def join(self) -> None:
        """Make the main line wait for everything started here."""
        if self._pending:
            self._main.wait_stream(self._stream)
            self._pending.clear()
