"""`python` without its imports: a process that has loaded everything forks one child per command.

It reads a line of JSON for each, arguments of `python` (`-m module ...` or `-c code`) and cwd, and answers with a line:
exit code and what the child wrote.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path


def serve() -> None:
    load_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(**json.loads(line))), flush=True)


def load_everything() -> None:
    """What the commands import sooner or later, but nothing that starts threads."""
    import rwkv_sweep.cli.compare
    import rwkv_sweep.sweep.callback
    import rwkv_sweep.sweep.run
    import rwkv_sweep.tracking.importing  # noqa: F401


def carry_out(arguments: list[str], cwd: str) -> dict[str, object]:
    log = Path(cwd) / "output.txt"
    child = os.fork()
    if child == 0:
        run(arguments, cwd, log)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"code": code, "output": log.read_text(errors="replace")}


def run(arguments: list[str], cwd: str, log: Path) -> None:
    """In the child: as `python` would, and the end of this process."""
    os.chdir(cwd)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    code = 0
    try:
        option, what, *rest = arguments
        sys.argv = [what, *rest]
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<snippet>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
