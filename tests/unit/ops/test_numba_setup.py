"""Set-up compiles every loop, for several threads and for one, so that no run waits for a compiler."""

from __future__ import annotations

import subprocess
import sys

COMPILE_AND_TELL = """
import gc
from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.ops.numba.compiling import Loop
run_verb("warm", [])
for loop in [each for each in gc.get_objects() if isinstance(each, Loop)]:
    print(loop.together.__name__, len(loop.together.signatures), len(loop.alone.signatures))
"""


def test_no_loop_is_left_to_a_run() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILE_AND_TELL], capture_output=True, text=True, check=True)
    found = [line.split() for line in done.stdout.splitlines()]
    assert len(found) > 8
    assert [name for name, together, alone in found if "0" in (together, alone)] == []
