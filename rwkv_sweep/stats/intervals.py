"""Values with 95 % bootstrap intervals, and ratios of interleaved samples.

Shapes: P pairs or rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rwkv_sweep.errors import NonFiniteError
from rwkv_sweep.stats.bootstrap import bootstrap_median, bootstrap_ratio, percentile_bounds


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its 95 % interval."""

    value: float
    lo: float
    hi: float

    def metrics(self, name: str) -> dict[str, float]:
        """The three numbers as metrics: `name`, `name_lo`, `name_hi`."""
        return {name: self.value, f"{name}_lo": self.lo, f"{name}_hi": self.hi}


@dataclass(frozen=True)
class Difference(Interval):
    """A difference, its 95 % interval, and the two-sided p-value of "there is none"."""

    p: float

    def metrics(self, name: str) -> dict[str, float]:
        """The four numbers as metrics: `name`, `name_lo`, `name_hi`, `name_p`."""
        return {**super().metrics(name), f"{name}_p": self.p}


def ratio_interval(a_ms: np.ndarray, b_ms: np.ndarray, resamples: int, seed: int) -> Interval:
    """Mean of `a_ms` over mean of `b_ms`, with its percentile bootstrap interval over pairs.

    Args:
        a_ms, b_ms: positive times [P]; sample p of both is of the same work, taken one right after the other, so that
            what makes it slow (a long text, a busy machine) is common to both and cancels.
        resamples, seed: of the bootstrap.

    Raises:
        ValueError: arrays that are not of one shape [P], or empty.
        NonFiniteError: a time that is NaN, infinite, or not above zero.
    """
    a, b = _times(a_ms, b_ms)
    return Interval(float(a.mean() / b.mean()), *percentile_bounds(bootstrap_ratio(a, b, resamples, seed)))


def median_ratio_interval(a_ms: np.ndarray, b_ms: np.ndarray, resamples: int, seed: int) -> Interval:
    """Median of the pairs' own ratios a / b, with its percentile bootstrap interval over pairs.

    A few rounds that something else on the machine made slow move the mean and hardly this. Arguments and errors as
    `ratio_interval`.
    """
    a, b = _times(a_ms, b_ms)
    return Interval(float(np.median(a / b)), *percentile_bounds(bootstrap_median(a / b, resamples, seed)))


def median_interval(values: np.ndarray, resamples: int, seed: int) -> Interval:
    """Median of positive `values` [P] with its percentile bootstrap interval.

    Raises:
        ValueError, NonFiniteError: as `ratio_interval`.
    """
    return median_ratio_interval(values, np.ones_like(values), resamples, seed)


def _times(a_ms: np.ndarray, b_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a_ms, dtype=np.float64), np.asarray(b_ms, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"two arrays of one shape [pairs], not empty, are needed, not {a.shape} and {b.shape}")
    if bad := int((~(np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0))).sum()):
        raise NonFiniteError(f"{bad} of {len(a)} pairs of times hold one that is NaN, infinite or not above zero")
    return a, b
