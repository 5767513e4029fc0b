"""What Ctrl-C and SIGTERM do: end the program in order, but never in the midst of writing a record."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM (a scheduler's or a service manager's word for stop), told apart from Ctrl-C by its exit code."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def heed_sigterm() -> None:
    """From now on SIGTERM ends this process as Ctrl-C does: what runs is recorded as KILLED, the parent run closed."""
    signal.signal(signal.SIGTERM, _terminate)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """A first interrupt within waits until the end of the block; a second one comes through at once.

    Signals can be held back in the main thread alone; elsewhere, where none arrive, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        restore()

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield
    finally:
        restore()
        if came:
            signal.raise_signal(came[0])
