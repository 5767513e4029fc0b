"""By how much matched runs of two sweeps differ in quality and speed, and whether that is more than noise.

Quality: paired bootstrap over the same pairs, then Holm's correction over all runs that are compared.

Speed: the two sweeps ran at different times, and whatever else the machine did then is in the times. What both timed
with the same code shows how much: the baselines. The largest factor that their intervals reach is noise either way (a
machine that was slow for one may have been slow for the other a minute later), and only what is beyond it counts.

Shapes: P pairs, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from rwkv_sweep.errors import NonFiniteError
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.records.samples import latency_samples
from rwkv_sweep.report.common.disagreement import first_rows
from rwkv_sweep.report.common.text import counted
from rwkv_sweep.report.comparison.matching import Matched, Matching, Sweep
from rwkv_sweep.stats.bootstrap import bootstrap_median, bootstrap_spearman, percentile_bounds, two_sided_p
from rwkv_sweep.stats.intervals import Difference, Interval, median_ratio_interval
from rwkv_sweep.stats.multiple_testing import ALPHA, holm

LEAST_SAMPLES = 5
"""Timed pairs below which a ratio gets no interval: a bootstrap of fewer shows nothing."""


@dataclass(frozen=True)
class Compared:
    """One run of A and the one of B that stands beside it.

    Attributes:
        quality: Spearman of B less that of A; None where `no_quality` says why.
        adjusted: its p-value after Holm's correction.
        latency: time of a pair in B over that in A, the median; None where `no_latency` says why.
        quality_noise, latency_noise: whether the difference is no more than noise; None where there is none.
    """

    matched: Matched
    quality: Difference | None
    adjusted: float | None
    latency: Interval | None
    no_quality: str = ""
    no_latency: str = ""
    quality_noise: bool | None = None
    latency_noise: bool | None = None


@dataclass(frozen=True)
class SweepComparison:
    """runs: all that are compared. control: what the baselines' times show of the machine, by name. reach: ratios that
    are noise, from 1 / f to f for the largest factor f that they reach; None without any that both timed."""

    runs: list[Compared]
    control: dict[str, Interval]
    reach: tuple[float, float] | None


def compare_runs(a: Sweep, b: Sweep, matching: Matching, resamples: int, seed: int) -> SweepComparison:
    """All matched runs, flagged. resamples, seed: of the bootstrap.

    Raises:
        UserError: scores or samples of a run are damaged.
    """
    control = {}
    for pair in matching.baselines:
        ratio, _ = _latency(a.folder(pair.a), b.folder(pair.b), _same_data(pair), resamples, seed)
        if ratio is not None:
            control[f"{pair.name} ({pair.a.params.get('dataset')})"] = ratio
    factor = max((max(ratio.hi, 1 / ratio.lo) for ratio in control.values()), default=1.0)
    reach = (1 / factor, factor) if control else None
    runs = [_compared(a, b, pair, resamples, seed) for pair in matching.matched]
    tested = [run for run in runs if run.quality is not None]
    adjusted = dict(zip(map(id, tested), holm([run.quality.p for run in tested if run.quality]), strict=True))
    return SweepComparison([_flagged(run, adjusted.get(id(run)), reach or (1.0, 1.0)) for run in runs], control, reach)


def _flagged(run: Compared, adjusted: float | None, reach: tuple[float, float]) -> Compared:
    slow = None if run.latency is None else run.latency.lo <= reach[1] and run.latency.hi >= reach[0]
    return replace(
        run, adjusted=adjusted, quality_noise=None if adjusted is None else adjusted > ALPHA, latency_noise=slow
    )


def _compared(a: Sweep, b: Sweep, pair: Matched, resamples: int, seed: int) -> Compared:
    if unfinished := [
        f"{label} {run.status.lower()}" for label, run in (("A", pair.a), ("B", pair.b)) if not _done(run)
    ]:
        why = ", ".join(unfinished)
        return Compared(pair, None, None, None, why, why)
    folders = a.folder(pair.a), b.folder(pair.b)
    quality, no_quality = _quality(*folders, resamples, seed)
    latency, no_latency = _latency(*folders, _same_data(pair), resamples, seed)
    return Compared(pair, quality, None, latency, no_quality, no_latency)


def _done(run: Result) -> bool:
    return run.status == FINISHED


def _same_data(pair: Matched) -> bool:
    prints = [run.tags.get("data_fingerprint") for run in (pair.a, pair.b)]
    return prints[0] is not None and prints[0] == prints[1]


def _quality(ours: Path, theirs: Path, resamples: int, seed: int) -> tuple[Difference | None, str]:
    """Spearman of the second less that of the first on the same resamples of pairs, or why there is none."""
    a, b = (first_rows(folder, most=None) for folder in (ours, theirs))
    if not a or not b:
        return None, "not scored"
    labels = np.array([label for *_, label, _ in a])
    if [row[:3] for row in a] != [row[:3] for row in b]:
        return None, "other pairs"
    scores = [np.array([score for *_, score in rows]) for rows in (a, b)]
    values = [float(spearmanr(scores_P, labels).statistic) for scores_P in scores]
    resampled = bootstrap_spearman(scores, labels, resamples, seed)
    difference_R = resampled[1] - resampled[0]
    try:
        return Difference(values[1] - values[0], *percentile_bounds(difference_R), two_sided_p(difference_R)), ""
    except NonFiniteError as error:
        return None, str(error)


def _latency(ours: Path, theirs: Path, same_data: bool, resamples: int, seed: int) -> tuple[Interval | None, str]:
    """Median time of the second over that of the first; over the same pairs where both timed the same ones."""
    a, b = latency_samples(ours), latency_samples(theirs)
    if min(len(a), len(b)) < LEAST_SAMPLES:
        return None, "not timed" if not min(len(a), len(b)) else f"fewer than {LEAST_SAMPLES} pairs timed"
    if same_data and len(a) == len(b):
        return median_ratio_interval(b, a, resamples, seed), ""
    medians = [bootstrap_median(samples, resamples, seed + number) for number, samples in enumerate((a, b))]
    return Interval(float(np.median(b) / np.median(a)), *percentile_bounds(medians[1] / medians[0])), ""


def verdicts(run: Compared) -> list[str]:
    """What is more than noise: `better` or `worse`, `faster` or `slower`; empty where nothing is."""
    words = []
    if run.quality is not None and run.quality_noise is False:
        words.append("better" if run.quality.value > 0 else "worse")
    if run.latency is not None and run.latency_noise is False:
        words.append("faster" if run.latency.value < 1 else "slower")
    return words


def conclusion(comparison: SweepComparison) -> list[str]:
    """One sentence on quality, one on speed, and what the latter rests on."""
    tested = [run for run in comparison.runs if run.quality is not None]
    timed = [run for run in comparison.runs if run.latency is not None]
    words = [word for run in comparison.runs for word in verdicts(run)]
    lines = []
    if tested:
        counts = f"{words.count('better')} better and {words.count('worse')} worse"
        lines.append(f"Quality: of {counted(len(tested), 'run')} {counts} by more than noise (Holm, 0.05).")
    else:
        lines.append("Quality: nothing could be compared.")
    if not timed:
        return [*lines, "Speed: nothing could be compared."]
    counts = f"{words.count('faster')} faster and {words.count('slower')} slower"
    lines.append(f"Speed: of {counted(len(timed), 'run')} {counts} by more than noise.")
    if comparison.reach is None:
        lines.append("Without baselines timed in both, nothing shows how much of that is due to the machine.")
    else:
        factor = f"a factor of up to {comparison.reach[1]:.2f}"
        lines.append(f"The baselines, timed in both, differ by {factor}: what is within that is noise.")
    return lines
