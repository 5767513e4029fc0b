"""The commands of `rwkv-sweep` and `python -m rwkv_sweep`: one module a verb; without a verb, a run or a sweep.

What a command does belongs to the packages below; here are arguments, exit codes and what the terminal shows.
"""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "report": ("report", "write the report of a finished sweep again"),
    "compare": ("compare", "set two sweeps side by side"),
    "cache": ("cache", "list or prune stored vectors"),
    "import": ("import_records", "bring into MLflow what it could not take when it happened"),
    "server": ("server", "serve runs to a team from PostgreSQL"),
    "reference": ("reference", "print every key and option"),
    "warm": ("warm", "compile the CPU's kernels ahead of need"),
}
"""Module and meaning of each verb."""


def main() -> None:
    """Run the command line of this process."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in VERBS:
        module, _ = VERBS[arguments[0]]
        sys.exit(_run_verb(f"rwkv_sweep.cli.{module}", arguments[1:]))
    # Imported here: another command need not load Hydra.
    from rwkv_sweep.cli.sweep import main as sweep

    sweep()


def _run_verb(module: str, arguments: list[str]) -> int:
    """The exit code of a command, which hides secrets and ends on signals and on closed output as a sweep does."""
    from rwkv_sweep.config.output_guard import guard_command
    from rwkv_sweep.errors import BAD_INPUT
    from rwkv_sweep.utils.closed_output import outlive_output, output_code
    from rwkv_sweep.utils.signals import exit_code, handle_termination

    outlive_output()
    guard_command(arguments)
    handle_termination()
    try:
        code: int = importlib.import_module(module).main(arguments)
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        return exit_code(interrupt)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return BAD_INPUT
    return output_code() or code
