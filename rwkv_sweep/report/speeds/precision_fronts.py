"""Which precisions no other is shown to beat, in quality and in speed or in size."""

from __future__ import annotations

import math

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.speeds.pareto import exact, unbeaten
from rwkv_sweep.report.speeds.precisions import MIB, PrecisionGroup
from rwkv_sweep.report.speeds.speeds import BATCHES, Regime, Speeds, speeds
from rwkv_sweep.stats.intervals import Interval

ZERO = Interval(0.0, 0.0, 0.0)
SAME_SIZE = 0.02
"""Relative difference of bytes that decides nothing: scales of 2 or of 4 bytes a row, for example."""


def quality_sign(group: PrecisionGroup, a: Result, b: Result) -> int:
    """1 where `a` is better than `b` in Spearman by more than noise, -1 where worse, else 0: by both differences to
    fp32, each a paired one."""
    ours, theirs = (ZERO if run is group.full else interval(run, "parity/spearman_delta") for run in (a, b))
    if ours is None or theirs is None:
        return 0
    gap = ours.value - theirs.value
    noise = (
        math.hypot(ours.value - ours.lo, theirs.hi - theirs.value)
        if gap > 0
        else math.hypot(ours.hi - ours.value, theirs.value - theirs.lo)
    )
    return 0 if abs(gap) <= noise else 1 if gap > 0 else -1


def fast_front(group: PrecisionGroup, regime: Regime = BATCHES) -> list[Result]:
    """What no precision is shown to beat in both Spearman and speed in one regime, by rising speed."""
    compared = speeds(group.runs, regime)
    runs = [run for run in group.runs if run.name in compared.of]
    front = unbeaten(
        len(runs),
        lambda i, j: quality_sign(group, runs[i], runs[j]),
        lambda i, j: compared.sign(runs[i].name, runs[j].name),
    )
    return sorted((runs[i] for i in front), key=lambda run: compared.of[run.name].value)


def whole_front(group: PrecisionGroup, compared: Speeds) -> list[Result]:
    """What no precision is shown to beat in Spearman, speed and MiB of weights together, the fastest first.

    compared: speeds of the group's runs in one regime; runs without one are left out.
    """
    runs = [run for run in group.runs if run.name in compared.of]
    front = unbeaten(
        len(runs),
        lambda i, j: quality_sign(group, runs[i], runs[j]),
        lambda i, j: compared.sign(runs[i].name, runs[j].name),
        lambda i, j: _size_sign(runs[i], runs[j]),
    )
    return sorted((runs[i] for i in front), key=lambda run: -compared.of[run.name].value)


def _size_sign(a: Result, b: Result) -> int:
    """1 where `a` has fewer MiB of weights by more than `SAME_SIZE`, -1 where more, else 0."""
    ours, theirs = metric(a, MIB), metric(b, MIB)
    if ours is None or theirs is None or abs(ours - theirs) <= SAME_SIZE * max(ours, theirs):
        return 0
    return exact(ours, theirs)


def small_front(group: PrecisionGroup) -> list[Result]:
    """What no precision is shown to beat in both Spearman and MiB of weights, by rising size."""
    runs = [run for run in group.runs if metric(run, MIB) is not None]
    front = unbeaten(
        len(runs),
        lambda i, j: quality_sign(group, runs[i], runs[j]),
        lambda i, j: exact(metric(runs[i], MIB), metric(runs[j], MIB)),
    )
    return sorted((runs[i] for i in front), key=lambda run: metric(run, MIB) or 0.0)
