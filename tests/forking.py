"""Commands without their imports: a process that has loaded everything forks one child per command.

It reads a line of JSON for each: arguments, cwd, kill_after, seconds after which the child is ended by SIGKILL (null
for `LIMIT_S`), after_records, how many records it adds before these seconds count, environment, further variables, and
conditions, as `commands.Conditions`. It answers with a line, as `commands.Ended`.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import resource
import runpy
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

LIMIT_S = 300.0
"""What still runs then waits for what will never come: a test fails in place of all that follow."""


def serve() -> None:
    load_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(**json.loads(line))), flush=True)
    os._exit(0)  # with nothing to write: to take all modules apart takes seconds


# What a run imports sooner or later, most of it where it is first needed, so that commands start quickly.
IMPORTED = (
    "altair",
    "mlflow.store.db.utils",
    "mlflow.store.tracking.sqlalchemy_store",
    "scipy.stats",
    "rwkv_sweep.cli.sweep",
    "rwkv_sweep.report.summary",
    "rwkv_sweep.sweep.runs.run",
    "rwkv_sweep.tracking.importing",
)
HEAD_SIZES = (8, 16)
"""Of the models of these tests: what is not compiled here is compiled in a command, which says so on stderr."""


def load_everything() -> None:
    """What each command would load again, but nothing that starts threads: after a fork they would be gone."""
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    import torch

    from rwkv_sweep.models.generations import GENERATIONS
    from rwkv_sweep.ops.common.packing import Packed

    # As small as the models of these tests: kernels for one thread are read from Numba's cache.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for head_size in HEAD_SIZES:
        sizes = {"vocab_size": 4, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32}
        config = GENERATIONS[6].random_config({**sizes, "head_size": head_size})
        model = GENERATIONS[6].draw(config, 0, torch.device("cpu")).eval()
        with torch.inference_mode():
            model(torch.tensor([0]), Packed.of([1]), [0], lambda *_: None, on_mean=lambda *_: None)
    torch.set_num_threads(threads)
    gc.freeze()  # no child looks through it, nor copies its pages
    gc.enable()
    assert threading.active_count() == 1, "threads were started, which no child would have"


def carry_out(
    arguments: list[str],
    cwd: str,
    kill_after: float | None,
    after_records: int,
    environment: dict[str, str],
    conditions: dict[str, Any],
) -> dict[str, object]:
    log = Path(conditions["log"] or Path(cwd) / "output.txt")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        run_command(arguments, cwd, log, conditions)
    silence = Silence([log, *filter(None, [conditions["errors"]])])
    if outlives(child, LIMIT_S if kill_after is None else kill_after, Path(cwd), after_records, silence):
        if conditions["remove"] is not None:
            shutil.rmtree(conditions["remove"], ignore_errors=True)
        else:
            os.kill(child, conditions["signal"])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    errors = Path(conditions["errors"]).read_text(errors="replace") if conditions["errors"] else ""
    seconds = time.monotonic() - started
    output = log.read_text(errors="replace")
    return {"code": code, "seconds": seconds, "silence": silence.longest, "output": output, "errors": errors}


class Silence:
    """How long at most a command wrote nothing, in seconds."""

    def __init__(self, paths: list[str | Path]) -> None:
        self._paths, self._size, self._since, self.longest = paths, 0, time.monotonic(), 0.0

    def look(self) -> None:
        size = sum(os.stat(path).st_size for path in self._paths if os.path.exists(path))
        now = time.monotonic()
        self.longest = max(self.longest, now - self._since)
        if size != self._size:
            self._size, self._since = size, now


def outlives(child: int, seconds: float, cwd: Path, records: int, silence: Silence) -> bool:
    """Whether the child still runs `seconds` after it has added `records` records; it is left to be waited for."""
    before = count_records(cwd)
    end = time.monotonic() + seconds if records == 0 else math.inf
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        silence.look()
        if end == math.inf and count_records(cwd) >= before + records:
            end = time.monotonic() + seconds
        time.sleep(0.01)
    return True


def count_records(cwd: Path) -> int:
    """In sweeps' folders; `os.walk` passes over folders that go while it looks."""
    actual = 0
    for _, folders, files in os.walk(cwd):
        folders[:] = [name for name in folders if name != "mlruns" and not name.startswith(".")]
        actual += "result.json" in files
    return actual


def run_command(arguments: list[str], cwd: str, log: Path, conditions: dict[str, Any]) -> None:
    """In the child: the command line as a shell would start it, and the end of this process."""
    code = 70
    try:
        os.setsid()
        os.chdir(os.fsencode(cwd))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(new_file(log), 1)
        os.dup2(new_file(conditions["errors"]) if conditions["errors"] else 1, 2)
        set_conditions(conditions)
        option, what, *rest = arguments if conditions["python"] else ["-m", "rwkv_sweep", *arguments]
        sys.argv = [what, *rest]
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def new_file(path: str | Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)


def set_conditions(conditions: dict[str, Any]) -> None:
    """In the child, after its output was opened."""
    for name in conditions["unread"]:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, {"stdout": 1, "stderr": 2}[name])
        os.close(writer)
    if conditions["umask"] is not None:
        os.umask(conditions["umask"])
    if conditions["file_size"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does
        resource.setrlimit(resource.RLIMIT_FSIZE, (conditions["file_size"],) * 2)


if __name__ == "__main__":
    serve()
