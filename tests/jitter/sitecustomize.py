"""A clock whose intervals are made up, so that no test can pass or fail by how long something took.

With this folder on PYTHONPATH every Python imports this module as it starts, before anything reads the clock; it does
nothing unless `JITTER_CLOCK` holds a seed. `pytest --jitter-clock SEED` sets both, for the tests and for all processes
that they start.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

VARIABLE = "JITTER_CLOCK"
SHORTEST_S, LONGEST_S = 0.1, 2.0
"""The shortest is what a measured pass takes at least (`PASS_SECONDS`): after a few shorter ones in a row, a pass would
repeat its work hundreds of times to last so long."""
TIE_S = 0.25  # a sum of it is exact


def made_up_clock(seed: int) -> Callable[[], float]:
    """Seconds that grow with each reading: by `TIE_S` for seed 0, so that all that is timed takes equally long; else
    by a random step, log-uniform between `SHORTEST_S` and `LONGEST_S`, the same steps for the same seed."""
    steps, lock, now = random.Random(seed), threading.Lock(), 0.0

    def read() -> float:
        nonlocal now
        with lock:
            now += TIE_S if seed == 0 else SHORTEST_S * (LONGEST_S / SHORTEST_S) ** steps.random()
            return now

    return read


def install(seed: int) -> None:
    """Replace `time.perf_counter`, the only clock that measurements read. What waits for others reads `monotonic`, and
    records are stamped with `time.time`: both stay."""
    read = made_up_clock(seed)
    time.perf_counter = read
    time.perf_counter_ns = lambda: int(read() * 1e9)


if VARIABLE in os.environ:
    install(int(os.environ[VARIABLE]))
