"""Set-up compiles every Numba kernel, for several threads and for one, so that no run waits for a compiler."""

from __future__ import annotations

import subprocess
import sys

COMPILE_AND_PRINT = """
import gc
from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.ops.numba.compiling import NumbaKernel
run_verb("warm", [])
for kernel in [item for item in gc.get_objects() if isinstance(item, NumbaKernel)]:
    print(kernel.together.__name__, len(kernel.together.signatures), len(kernel.alone.signatures))
"""


def test_no_kernel_is_left_to_a_run() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILE_AND_PRINT], capture_output=True, text=True, check=True)
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert len(kernels) > 8
    assert [name for name, together, alone in kernels if "0" in (together, alone)] == []
