"""Errors a user can act on."""


class UserError(ValueError):
    """Bad input, told in one line that names the thing, its value and what would be valid.

    Raised for everything a user can put right (configuration, files, checkpoints, devices); the command line prints
    the message alone, without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UnsupportedError(UserError):
    """What was asked for is valid, but this device, or what is installed here, cannot do it.

    A sweep records such a run as unsupported, with this reason, and goes on.
    """


class NonFiniteError(RuntimeError):
    """A result is NaN or infinite, or would be: the run fails and says why, instead of recording it as a number."""
