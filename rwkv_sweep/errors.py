"""Errors a user can act on, and what is shown of the values in them."""

from __future__ import annotations

import reprlib

SOME_FAILED = 1
"""Exit code of a sweep with a failed job, and of a command that a server, a launcher or a full disk stopped."""
BAD_INPUT = 2
"""Exit code of what nothing was done for, as the input was refused."""
SIGNALLED = 128
"""A shell's exit code of a process that a signal ended, less the signal's number."""
PIPE_CLOSED = SIGNALLED + 13
"""Exit code of a command whose reader is gone: that of a process ended by SIGPIPE."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlong = 40
_REPR.maxlevel = 3


def shown(value: object) -> str:
    """A value in Python's notation for a message, shortened in its middle however long or deep it is."""
    return _REPR.repr(value)


class UserError(ValueError):
    """Bad input, reported in one line that names the thing, its value and what would be valid.

    Raised for everything a user can put right (configuration, files, checkpoints, devices); the command line prints
    the message alone, without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UnsupportedError(UserError):
    """What was asked for is valid, but this device, or what is installed here, cannot do it.

    A sweep records such a run as unsupported, with this reason, and goes on.
    """


class FolderGoneError(UserError):
    """The folder of a sweep was removed while the sweep ran."""

    def __init__(self, folder: object) -> None:
        super().__init__(f"{folder} was removed while its sweep ran: what was tracked of it is still in MLflow")


class NoTokensError(UserError):
    """A tokenizer makes nothing of some sentences.

    Attributes:
        rows: their places, from 0.
    """

    def __init__(self, message: str, rows: list[int]) -> None:
        super().__init__(message)
        self.rows = rows


class NonFiniteError(RuntimeError):
    """A result is NaN or infinite, or would be: the run fails and says why, instead of recording it as a number."""


class UndefinedError(NonFiniteError):
    """A figure that does not exist for these data, such as a correlation with scores that are all equal."""


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that this error hides; None where there is none.

    An interrupt may come anywhere. What it leaves unfinished can fail in turn, in a `finally` of OmegaConf for one, and
    that error is then what is raised.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, KeyboardInterrupt):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None


def ends_the_program(error: BaseException) -> bool:
    """Whether an error is a request to end, or hides one, which nobody may catch for good.

    What is neither this nor an `Exception` is a failure all the same: a panic in a Rust library (a tokenizer's, say)
    reaches Python as a bare `BaseException`.
    """
    return isinstance(error, (SystemExit, GeneratorExit)) or interrupt_behind(error) is not None


def first_line(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero`: class and first line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def system_error(error: BaseException, folder: object = None) -> str | None:
    """`PATH: No space left on device`: what the system refused, where an error, or what caused it, says so. folder:
    stands for the path where the system names none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            path = cause.filename or folder
            return f"{path}: {cause.strerror}" if path else cause.strerror
        cause = cause.__cause__ or cause.__context__
    return None
