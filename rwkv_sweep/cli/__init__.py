"""The commands of `rwkv-sweep` and `python -m rwkv_sweep`: one module a verb; without a verb, a run or a sweep.

What a command does belongs to the packages below; here are arguments, exit codes and what the terminal shows.
"""

from __future__ import annotations

import sys

from rwkv_sweep.cli.verbs import VERBS, run_verb, unknown_verb
from rwkv_sweep.errors import BAD_INPUT
from rwkv_sweep.utils.closed_output import outlive_output, output_code
from rwkv_sweep.utils.processes import QuickExit
from rwkv_sweep.utils.signals import handle_termination


def main() -> None:
    """Run the command line of this process."""
    end = QuickExit()
    end.register()
    with end.noted():
        _run_command()


def _run_command() -> None:
    first, *others = sys.argv[1:] or [""]
    if first in VERBS:
        from rwkv_sweep.config.output_guard import guard_command

        outlive_output()
        guard_command(others)
        handle_termination()
        code = run_verb(first, others)
        sys.exit(output_code() or code)
    if message := unknown_verb(first):
        print(f"error: {message}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    # Imported here: another command need not load Hydra.
    from rwkv_sweep.cli.sweep import main as sweep

    sweep()
