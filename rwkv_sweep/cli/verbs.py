"""The commands beside the sweep: their names, and one way to start and to end each of them.

The module of a command has a docstring, which `--help` shows, and two functions: `add_arguments(parser)`, and
`run(args)`, which returns the exit code. It imports what takes long within `run`, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import sys
from dataclasses import dataclass
from typing import NoReturn

from rwkv_sweep.errors import BAD_INPUT, UserError, system_error
from rwkv_sweep.utils.redaction import SECRETS, redact
from rwkv_sweep.utils.signals import exit_code


@dataclass(frozen=True)
class Verb:
    """A command. module: of this package. meaning: a line for the overview."""

    module: str
    meaning: str


VERBS = {
    "report": Verb("report", "write the report of a finished sweep again"),
    "compare": Verb("compare", "set two sweeps side by side"),
    "encode": Verb("encode", "turn the texts of a file into vectors by a run's encoder"),
    "export": Verb("export", "write a run's encoder as a folder that stands alone"),
    "register": Verb("register", "make a run's encoder a registered model of MLflow"),
    "cache": Verb("cache", "list stored vectors, or remove the oldest"),
    "import": Verb("import_records", "log to MLflow what it could not take during a sweep"),
    "server": Verb("server", "serve runs to a team from PostgreSQL"),
    "reference": Verb("reference", "print every key and option"),
    "warm": Verb("warm", "compile kernels before they are needed"),
}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WORD = re.compile(r"[A-Za-z][\w-]*")


class _Parser(argparse.ArgumentParser):
    """Ends with one line for bad input, as all that this program refuses."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {redact(message)}; {self.prog} --help shows what is valid\n")


def run_verb(name: str, arguments: list[str]) -> int:
    """Carry out one command of `VERBS`; returns its exit code, one of those in `rwkv_sweep.errors`.

    Raises:
        SystemExit: after `--help`, or for arguments that are not valid.
    """
    module = importlib.import_module(f"rwkv_sweep.cli.{VERBS[name].module}")
    parser = _Parser(
        prog=f"rwkv-sweep {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    _remember_uris(arguments)
    args = parser.parse_args(arguments)
    try:
        return int(module.run(args))
    except UserError as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(system_error(error) or str(error))
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        return exit_code(interrupt)


def unknown_verb(argument: str) -> str | None:
    """What to report of a first argument that is a plain word, and so neither a command nor an override."""
    if argument in VERBS or not _WORD.fullmatch(argument):
        return None
    similar = difflib.get_close_matches(argument, VERBS, n=1)
    hint = f"did you mean {similar[0]}? Commands are" if similar else "commands are"
    return f"{argument} is neither a command nor key=value: {hint} {', '.join(VERBS)}; a run takes layer=5 and the like"


def _remember_uris(arguments: list[str]) -> None:
    """Hide the passwords of URIs, which an error may quote; a password may hold a quote, which ends a URI in a text."""
    for argument in arguments:
        if start := _URI.search(argument):
            SECRETS.remember_uri(argument[start.start() :])


def _refused(message: str) -> int:
    print(f"error: {redact(message)}", file=sys.stderr)
    return BAD_INPUT
