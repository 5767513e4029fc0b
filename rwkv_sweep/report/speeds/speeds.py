"""Which runs' speeds may be compared, in the two regimes that are timed, and which of them are the fastest.

Runs of a sweep are timed one after another, and a machine's speed drifts. Their tokens/s and milliseconds are shown,
but runs are only ranked by what was timed interleaved: against fp32, against final-layer inference, or beside a
reference that all of them share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.run_groups import CONFIGURATION_KEYS, differing, interval, layer, metric
from rwkv_sweep.report.speeds.precisions import OWN, is_full
from rwkv_sweep.stats.intervals import Interval

LEAST_SAMPLES = 5
"""Samples below which an interval is not trusted: a bootstrap of fewer shows nothing."""
BETWEEN_JOBS = 0.03
"""Difference in speed that is no more than noise between jobs timed one after another, each beside the reference: as
far as the rates of one job, once steady, may differ."""
ONE = Interval(1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Regime:
    """What is timed.

    Attributes:
        name, where: as a noun, and in a sentence.
        raw: metric of a run alone. ratio: beside the common reference; ratio_is_time: whether less of it is faster.
        over_fp32: metric of fp32's time over the run's. overhead: of the run's time over final-layer inference's.
        samples: by metric, the param that says how many samples its interval comes from, and the factor to it.
    """

    name: str
    where: str
    raw: str
    ratio: str
    ratio_is_time: bool
    over_fp32: str
    overhead: str
    samples: dict[str, tuple[str, int]] = field(hash=False)


BATCHES = Regime(
    "packed batches",
    "in packed batches",
    "throughput/tokens_per_s",
    "throughput/ratio",
    False,
    "speedup/over_fp32",
    "overhead/batch_ratio",
    {"speedup/over_fp32": ("measure.speedup_rounds", 1), "overhead/batch_ratio": ("measure.overhead_batches", 1)},
)
PAIRS = Regime(
    "single pairs",
    "for single pairs",
    "latency/mean_ms",
    "latency/ratio",
    True,
    "speedup/pair_over_fp32",
    "overhead/latency_ratio",
    {
        "speedup/pair_over_fp32": ("measure.speedup_rounds", 4),
        "overhead/latency_ratio": ("measure.overhead_pairs", 1),
        "latency/ratio": ("measure.latency_pairs", 1),
    },
)
REGIMES = (BATCHES, PAIRS)


@dataclass(frozen=True)
class Speeds:
    """Speeds of several runs on one scale, more is faster.

    Attributes:
        regime: what was timed.
        of: speed by the run's name, over that of the reference.
        reference: what that is, in words.
        margin: relative difference below which two runs are alike even if their intervals are narrow.
        left_out: how many runs were timed, but not on this scale.
        why_not: where `of` is empty, the reason.
    """

    regime: Regime
    of: dict[str, Interval]
    reference: str = ""
    margin: float = 0.0
    why_not: str = ""
    left_out: int = 0

    def ratio(self, a: str, b: str) -> Interval:
        """Speed of run `a` over that of run `b`."""
        return ONE if a == b else quotient(self.of[a], self.of[b])

    def sign(self, a: str, b: str) -> int:
        """1 where run `a` is faster than run `b` by more than noise, -1 where it is slower, else 0."""
        return sign(self.ratio(a, b), self.margin)

    @property
    def fastest(self) -> list[str]:
        """The fastest run by its value, then those that noise does not set apart from it, by falling speed."""
        order = sorted(self.of, key=lambda name: -self.of[name].value)
        return [name for name in order if not self.sign(order[0], name)]


def quotient(a: Interval, b: Interval) -> Interval:
    """a / b of two positive figures measured apart from each other: relative widths add as squares."""
    up = math.hypot(math.log(a.hi / a.value), math.log(b.value / b.lo))
    down = math.hypot(math.log(a.value / a.lo), math.log(b.hi / b.value))
    ratio = a.value / b.value
    return Interval(ratio, ratio * math.exp(-down), ratio * math.exp(up))


def sign(ratio: Interval, margin: float = 0.0) -> int:
    """1 where a ratio is above 1 by more than noise, -1 where below, else 0."""
    if ratio.lo > 1 and ratio.value > 1 + margin:
        return 1
    return -1 if ratio.hi < 1 and ratio.value < 1 / (1 + margin) else 0


def inverse(ratio: Interval) -> Interval:
    """1 / ratio."""
    return Interval(1 / ratio.value, 1 / ratio.hi, 1 / ratio.lo)


def positive(run: Result, key: str) -> Interval | None:
    """A metric with its bounds, None unless all three are there and above zero."""
    value = interval(run, key)
    # A percentile interval need not contain its value.
    return (
        Interval(value.value, min(value.lo, value.value), max(value.hi, value.value))
        if value and value.lo > 0
        else None
    )


def speeds(runs: Sequence[Result], regime: Regime) -> Speeds:
    """Speeds of finished runs on one scale; of nothing, with the reason, where they were not measured on one."""
    timed = [run for run in runs if metric(run, regime.raw) is not None or _any_ratio(run, regime)]
    if len(timed) < 2:
        return Speeds(regime, {}, why_not="fewer than two runs were timed")
    reasons = []
    for basis in (_over_fp32, _over_final, _beside_reference):
        compared = basis(timed, regime)
        if compared.of:
            return replace(compared, left_out=len(timed) - len(compared.of))
        reasons.append(compared.why_not)
    return Speeds(regime, {}, why_not=next(filter(None, reasons), "they were timed one after another"))


def _any_ratio(run: Result, regime: Regime) -> bool:
    return any(metric(run, key) is not None for key in (regime.over_fp32, regime.overhead, regime.ratio))


def _over_fp32(runs: Sequence[Result], regime: Regime) -> Speeds:
    """Runs that differ in their precision alone."""

    def speed(run: Result) -> Interval | None:
        return ONE if is_full(run) else positive(run, regime.over_fp32)

    compared = _gathered(runs, regime, speed, regime.over_fp32, "fp32")
    return Speeds(regime, {}) if differing(runs, OWN) else compared


def _over_final(runs: Sequence[Result], regime: Regime) -> Speeds:
    """Runs that differ in layers and aggregation alone."""

    def speed(run: Result) -> Interval | None:
        ratio = positive(run, regime.overhead)
        # Its own ratio is the control: final-layer inference against itself.
        return ONE if layer(run) == "final" else inverse(ratio) if ratio else None

    compared = _gathered(runs, regime, speed, regime.overhead, "final-layer inference")
    return Speeds(regime, {}) if differing(runs, CONFIGURATION_KEYS) else compared


def _beside_reference(runs: Sequence[Result], regime: Regime) -> Speeds:
    """Runs each timed beside one and the same reference, on one machine and one set of pairs."""
    references = {run.tags.get("speed.reference") for run in runs if metric(run, regime.ratio) is not None}
    if len(references) != 1 or None in references:
        return Speeds(regime, {})
    (reference,) = map(str, references)
    # A GEMM is the same for every model; final-layer inference is not.
    same = ("device_name", "data_fingerprint", *(() if reference.startswith("torch.") else ("model_fingerprint",)))
    if any(len({run.tags.get(tag) for run in runs}) > 1 for tag in same):
        return Speeds(regime, {})

    def speed(run: Result) -> Interval | None:
        ratio = positive(run, regime.ratio)
        return inverse(ratio) if ratio and regime.ratio_is_time else ratio

    steady = [run for run in runs if regime is not BATCHES or metric(run, "throughput/settled") != 0]
    if len(steady) < 2:
        return Speeds(regime, {}, why_not="the rates reached no steady state")
    compared = _gathered(steady, regime, speed, regime.ratio, reference)
    if len(compared.of) < len(steady):
        return Speeds(regime, {})
    return Speeds(regime, compared.of, compared.reference, BETWEEN_JOBS, compared.why_not)


def _gathered(
    runs: Sequence[Result], regime: Regime, speed: Callable[[Result], Interval | None], key: str, reference: str
) -> Speeds:
    """The speeds of the runs that have one; of none where these are fewer than two, or come from too few samples."""
    of = {run.name: value for run in runs if (value := speed(run)) is not None}
    if len(of) < 2:
        return Speeds(regime, {})
    param, per_round = regime.samples.get(key, ("", 1))
    counts = [per_round * int(count) for run in runs if str(count := run.params.get(param, "")).isdecimal()]
    if counts and min(counts) < LEAST_SAMPLES:
        return Speeds(regime, {}, why_not=f"{min(counts)} rounds are too few to compare them")
    return Speeds(regime, of, reference)
