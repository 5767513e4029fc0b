"""Output that nobody reads any more (`| head -1`, a terminal that was closed, a full disk) must not cost a result."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from typing import Any

from rwkv_sweep.errors import PIPE_CLOSED, SOME_FAILED


class _OutlivingStream:
    """A text stream that drops what cannot be written any more; in all else the stream that it stands for.

    write_error: the first, None as long as all could be written.
    """

    outlives = True

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.write_error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send all that follows, of child processes too, to nowhere."""
        self.write_error = self.write_error or error
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()  # what was buffered
        except (OSError, ValueError):  # no file behind it
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)


def outlive_output() -> None:
    """From now on, output that cannot be written is dropped, and no error; for a process that is this program's own."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
        if not getattr(stream, "outlives", False):
            setattr(sys, name, _OutlivingStream(stream))


def output_code() -> int:
    """Exit code that shows whether standard output was written: 0, or what a Unix tool would end with."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    error = getattr(sys.stdout, "write_error", None)
    if error is None:
        return 0
    if error.errno == errno.EPIPE:
        return PIPE_CLOSED
    print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr, flush=True)
    return SOME_FAILED
