"""Tokens per second of packed batches in steady state.

A pass is some batches run one after another, with one wait for the device at the end, long enough for a clock
(`PASS_SECONDS`). Passes are repeated until a fixed time has gone by *and* the rate has settled: the latest
`SETTLED_PASSES` rates lie within `TOLERANCE` of their median. The figure is the median of the passes that belong to
that state; where it is never reached within the limit, the record says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rwkv_sweep.profiling.timing import MachineReference, frozen_heap, synchronize
from rwkv_sweep.stats.intervals import median_interval

Batch = tuple[Callable[[], object], int]
"""What runs a packed batch, and how many tokens it has."""

PASS_SECONDS = 0.1
SETTLED_PASSES = 3
TOLERANCE = 0.03
LIMIT = 4
"""Passes end after this many times the seconds asked for, settled or not, once there are twice `SETTLED_PASSES`."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Throughput:
    """Passes of one configuration, in the order in which they ran.

    Attributes:
        rates: tokens per second of each pass.
        reference: GFLOP/s of the machine's reference product, timed right after each pass; empty where there is none.
        steady: index of the first pass of the settled state; 0 where it was not reached.
        settled: whether the rate settled.
        tokens: tokens of all passes.
    """

    rates: tuple[float, ...]
    reference: tuple[float, ...]
    steady: int
    settled: bool
    tokens: int

    def metrics(self) -> dict[str, float]:
        """`throughput/*`: medians over the settled passes with 95 % bootstrap intervals, see docs/metrics.md."""
        rates = np.array(self.rates[self.steady :])
        values = {
            **median_interval(rates, RESAMPLES, seed=0).metrics("throughput/tokens_per_s"),
            "throughput/tokens": float(self.tokens),
            "throughput/passes": float(len(rates)),
            "throughput/settled": float(self.settled),
        }
        if self.reference:
            ratios = rates / np.array(self.reference[self.steady :])
            values |= median_interval(ratios, RESAMPLES, seed=0).metrics("throughput/ratio")
        return values

    def tags(self) -> dict[str, str]:
        """A note on a rate that did not settle."""
        if self.settled:
            return {}
        last = np.array(self.rates[-SETTLED_PASSES:])
        return {
            "note.throughput": f"not settled: the last {len(last)} of {len(self.rates)} passes range from "
            f"{last.min():.0f} to {last.max():.0f} tokens/s"
        }


def measure_throughput(
    work: Sequence[Batch], seconds: float, device: torch.device, reference: MachineReference | None = None
) -> Throughput:
    """Time `work` over and over until its rate has settled.

    Args:
        work: batches that make one round, each of which has run at least once, so that nothing is compiled, tuned or
            allocated for the first time within a pass.
        seconds: passes take at least so long together.
        device: waited for at the end of each pass.
        reference: sampled after each pass, outside its time.

    Raises:
        ValueError: no work.
    """
    if not work:
        raise ValueError("throughput needs at least one batch")
    rounds = 1
    rates: list[float] = []
    of_machine: list[float] = []
    tokens, passed = 0, 0.0
    with frozen_heap():
        while True:
            count, taken = _run_pass(work, rounds, device)
            if not rates and taken < PASS_SECONDS:
                # The first pass only shows how many rounds make one.
                rounds = max(rounds + 1, round(1.2 * rounds * PASS_SECONDS / max(taken, 1e-6)))
                continue
            rates.append(count / taken)
            tokens, passed = tokens + count, passed + taken
            if reference is not None:
                of_machine.append(reference.sample())
            if len(rates) >= SETTLED_PASSES:
                settled = passed >= seconds and is_settled(rates[-SETTLED_PASSES:])
                if settled or (passed >= LIMIT * seconds and len(rates) >= 2 * SETTLED_PASSES):
                    break
    return Throughput(tuple(rates), tuple(of_machine), steady_from(rates) if settled else 0, settled, tokens)


def is_settled(rates: Sequence[float]) -> bool:
    """Whether these rates lie within `TOLERANCE` of their median."""
    middle = float(np.median(rates))
    return max(abs(rate / middle - 1) for rate in rates) <= TOLERANCE


def steady_from(rates: Sequence[float]) -> int:
    """Index of the first of the passes before the last `SETTLED_PASSES` that are already like these."""
    middle = float(np.median(rates[-SETTLED_PASSES:]))
    first = len(rates) - SETTLED_PASSES
    while first > 0 and abs(rates[first - 1] / middle - 1) <= TOLERANCE:
        first -= 1
    return first


def _run_pass(work: Sequence[Batch], rounds: int, device: torch.device) -> tuple[int, float]:
    """Tokens and seconds of one pass."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(rounds):
        for run, _ in work:
            run()
    synchronize(device)
    return rounds * sum(tokens for _, tokens in work), time.perf_counter() - start
