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
        sys.exit(importlib.import_module(f"rwkv_sweep.cli.{module}").main(arguments[1:]))
    # Imported here: another command need not load Hydra.
    from rwkv_sweep.cli.sweep import main as sweep

    sweep()
