"""Several configurations timed in one process in paired rounds, so that what slows the machine falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from rwkv_sweep.profiling.timing import frozen_heap, synchronize

Work = Callable[[], object]

WARM_UP_ROUNDS = 3


def interleaved(
    rounds: Sequence[Mapping[str, Work]], device: torch.device, random: np.random.Generator
) -> dict[str, list[float]]:
    """Milliseconds of each configuration, one sample a round; within a round they run in random order.

    On a GPU every round that differs is run once before, untimed, so that no sample holds a first launch; elsewhere
    the first `WARM_UP_ROUNDS` are.
    """
    different = {id(work): work for work in rounds}
    warm_ups = list(different.values()) if device.type == "cuda" else []
    for work in [*warm_ups, *rounds[:WARM_UP_ROUNDS]]:
        for run in work.values():
            run()
    samples: dict[str, list[float]] = {name: [] for name in rounds[0]}
    with frozen_heap():
        for work in rounds:
            for name in random.permutation(list(work)):
                synchronize(device)
                start = time.perf_counter()
                work[name]()
                synchronize(device)
                samples[name].append((time.perf_counter() - start) * 1e3)
    return samples
