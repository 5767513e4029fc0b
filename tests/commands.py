"""Commands of this program in processes of their own, which need no time for imports: see `forking`."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SILENCE_S = 30.0
"""What is asked of commands on small inputs: never longer without a word."""


@dataclass
class Ended:
    """A command that has ended.

    code: negative for the signal that ended it. output: what it wrote to both streams; to stdout alone where
    `Conditions.errors` names another file for stderr. errors: what it wrote to that. silence: the longest time for
    which it wrote nothing, in seconds.
    """

    code: int
    seconds: float
    silence: float
    output: str
    errors: str


@dataclass(frozen=True)
class Conditions:
    """What a command meets.

    signal: what ends it at the moment given. remove: a folder that is removed then in place of a signal. umask: its
    own. file_size: the largest file it may write, in bytes. unread: streams whose reader is gone. log: where its output
    goes, if not into its working folder. errors: where its stderr goes, if not there. python: whether the arguments are
    those of `python` (`-m module ...` or `-c code`), in place of this program's.
    """

    signal: int = signal.SIGKILL
    remove: str | None = None
    umask: int | None = None
    file_size: int | None = None
    unread: tuple[str, ...] = ()
    log: str | None = None
    errors: str | None = None
    python: bool = False


class Commands:
    """Starts commands one after another, each in a process of its own that has all imports behind it."""

    def __init__(
        self, environment: dict[str, str], prefix: Sequence[str] = (), longest_silence_s: float = math.inf
    ) -> None:
        """prefix: a program that starts them, with its own arguments, such as setpriv. longest_silence_s: a command
        that writes nothing for longer fails the test, unless nobody reads what it writes."""
        self._longest_silence_s = longest_silence_s
        script = Path(__file__).with_name("forking.py")
        self._process = subprocess.Popen(
            [*prefix, sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def run(
        self,
        arguments: list[str],
        cwd: Path,
        kill_after: float | None = None,
        after_records: int = 0,
        environment: dict[str, str] | None = None,
        conditions: Conditions = Conditions(),
    ) -> Ended:
        """kill_after: seconds after its start, or after it has added records, when SIGKILL ends it; None: five minutes.
        environment: variables beside those of all commands."""
        cwd.mkdir(exist_ok=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"arguments": arguments, "cwd": str(cwd), "kill_after": kill_after, "after_records": after_records}
        request |= {"environment": environment or {}, "conditions": asdict(conditions)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ended = Ended(**json.loads(self._process.stdout.readline()))
        silent = ended.silence > self._longest_silence_s and not conditions.unread
        assert not silent, f"{arguments}: {ended.silence:.1f} s without a word\n{ended.output}"
        return ended

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
