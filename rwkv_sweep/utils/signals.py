"""What Ctrl-C, SIGTERM and SIGHUP do: end the program in order, but never in the midst of writing a record."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

from rwkv_sweep.errors import SIGNALLED

_TERMINATING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_SIGNALS = (signal.SIGINT, *_TERMINATING)


class Terminated(KeyboardInterrupt):
    """SIGTERM (a scheduler's or a service manager's word for stop) or SIGHUP (the terminal is gone).

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return SIGNALLED + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


def let_go(error: BaseException) -> None:
    """Free what the frames hold that an interrupt has left, such as a database's open transaction, which would keep
    this very process from writing to it until the wait for its lock ends."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__context__
    gc.collect()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def handle_termination() -> None:
    """From now on SIGTERM and SIGHUP end this process as Ctrl-C does: what runs is recorded as KILLED, the parent run
    closed. SIGHUP stays ignored where it was (`nohup`)."""
    for number in _TERMINATING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """A first interrupt within waits until the end of the block; a second one comes through at once.

    Signals can be blocked in the main thread alone; elsewhere, where none arrive, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    kept_back = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]

    def restore() -> None:
        for number in kept_back:
            handler = before[number]
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        restore()

    for number in kept_back:
        signal.signal(number, note)
    try:
        yield
    finally:
        restore()
        if came:
            signal.raise_signal(came[0])
