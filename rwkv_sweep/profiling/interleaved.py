"""Several configurations timed in one process in paired rounds, so that what slows the machine falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rwkv_sweep.profiling.timing import frozen_heap, synchronize

Work = Callable[[], object]

WARM_UP_ROUNDS = 3
HALF_WIDTH = 0.005
"""On a GPU rounds end early once every ratio of mean times is known to this share of itself, see `StopRule`."""
LEAST_ROUNDS, LEAST_PAIRS = 5, 20
"""... and no sooner: rounds of a batch, and of single pairs, which take little time."""
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""97.5 % quantiles of Student's t distribution for 1 to 10 degrees of freedom; beyond, that of 10 is taken."""


@dataclass(frozen=True)
class StopRule:
    """When enough rounds were run: at least `least`, and for each configuration the 95 % interval of its mean time over
    the reference's reaches at most `half_width` of the ratio to either side.

    That interval is Student's, of the ratio's linear approximation; what is reported is the bootstrap's, of all rounds.

    Attributes:
        reference: name of the configuration that the others are compared with.
    """

    reference: str
    half_width: float = HALF_WIDTH
    least: int = LEAST_ROUNDS

    def reached(self, samples: Mapping[str, Sequence[float]]) -> bool:
        """Whether these samples are enough."""
        rounds = len(samples[self.reference])
        if rounds < max(2, self.least):
            return False
        base = np.array(samples[self.reference])
        quantile = STUDENT_T[min(rounds - 1, len(STUDENT_T)) - 1]
        for name, values in samples.items():
            ratio = float(np.mean(values) / base.mean())
            spread = float(np.std(np.array(values) - ratio * base, ddof=1)) / base.mean()
            if name != self.reference and quantile * spread / rounds**0.5 > self.half_width * ratio:
                return False
        return True


def stop_rule(reference: str, device: torch.device, least: int) -> StopRule | None:
    """The rule on a GPU, whose times hardly vary; on a CPU all rounds are run."""
    return StopRule(reference, least=least) if device.type == "cuda" else None


def interleaved(
    rounds: Sequence[Mapping[str, Work]],
    device: torch.device,
    random: np.random.Generator,
    rule: StopRule | None = None,
    shapes: Sequence[object] | None = None,
) -> dict[str, list[float]]:
    """Milliseconds of each configuration, one sample a round; within a round they run in random order.

    On a GPU every round of another shape is run once before, untimed, so that no sample holds a first launch; elsewhere
    the first `WARM_UP_ROUNDS` are.

    Args:
        rule: ends the rounds early.
        shapes: of each round; those of one shape launch the same kernels. None where each round may launch its own.
    """
    keys = [id(work) for work in rounds] if shapes is None else shapes
    different = dict(zip(keys, rounds, strict=True))
    for work in different.values() if device.type == "cuda" else rounds[:WARM_UP_ROUNDS]:
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
            if rule is not None and rule.reached(samples):
                break
    return samples
