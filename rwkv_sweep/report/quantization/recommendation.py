"""Which precision to take in each regime: the fastest that loses no quality, and what no other beats.

Packed batches are bound by arithmetic, a single pair by reading weights and by launches: the answers may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.common.text import first_few, interval_text, listed, times
from rwkv_sweep.report.quantization.statements import Loss
from rwkv_sweep.report.speeds.precision_fronts import SAME_SIZE, whole_front
from rwkv_sweep.report.speeds.precisions import MIB, PrecisionGroup, is_flagged
from rwkv_sweep.report.speeds.speeds import BATCHES, Speeds
from rwkv_sweep.stats.intervals import Interval


@dataclass(frozen=True)
class Recommended:
    """The precision to take in one regime.

    Attributes:
        regime: `batches` or `pairs`. where: `in packed batches`, `for single pairs`.
        label: of the precision.
        speed: over fp32's; None where it is fp32 itself.
        delta: Spearman less fp32's; None where it is fp32 itself, or quality was not compared.
        size: bytes of the weights without the embedding table, as a share of fp32's; None where not known.
        lossy: precisions that are faster by more than noise, and lose Spearman or change it beyond what is tolerated.
        front: what no precision is shown to beat in quality, speed and bytes, the fastest first.
    """

    regime: str
    where: str
    label: str
    speed: Interval | None
    delta: Interval | None
    size: float | None
    lossy: list[str]
    front: list[str]

    @property
    def text(self) -> str:
        where = self.where[0].upper() + self.where[1:]
        but = f"; faster, but with a loss of quality: {first_few(self.lossy)}" if self.lossy else ""
        if self.speed is None:
            return f"{where} take {self.label}, since no precision without a loss of quality is faster{but}."
        parts = [times(self.speed, "fp32")]
        if self.size is not None:
            parts.append(f"{self.size:.0%} of its bytes")
        quality = "quality not scored"
        if self.delta is not None:
            quality = f"Spearman {self.delta.value:+.3f}, {interval_text(self.delta, '+.3f')}"
        return f"{where} take {self.label}: {', '.join(parts)}, {quality}{but}."

    @property
    def answer_metrics(self) -> dict[str, float]:
        """Under the names of docs/metrics.md."""
        prefix = f"answer/{self.regime}"
        metrics = {f"{prefix}/front": float(len(self.front))}
        if self.speed is not None:
            metrics |= _bounds(f"{prefix}/speed_over_fp32", self.speed)
        if self.delta is not None:
            metrics |= _bounds(f"{prefix}/spearman_delta", self.delta)
        return metrics if self.size is None else metrics | {f"{prefix}/bytes_share": self.size}

    @property
    def answer_tags(self) -> dict[str, str]:
        """The precision by its name, and those on the front."""
        prefix = f"answer.{self.regime}"
        return {f"{prefix}.precision": self.label, f"{prefix}.front": "; ".join(self.front)}


@dataclass(frozen=True)
class Fronts:
    """What no precision is shown to beat in quality, speed and bytes, in each regime (where, labels)."""

    of: list[tuple[str, list[str]]]

    @property
    def text(self) -> str:
        parts = [
            f"{where} {listed(labels, ';' if any(',' in label for label in labels) else ',')}"
            for where, labels in self.of
        ]
        return f"Not beaten in quality, speed and bytes together: {listed(parts, ';')}."


def recommended(group: PrecisionGroup, compared: Speeds, losses: Mapping[str, Loss]) -> Recommended | None:
    """The recommendation for one regime; None where its speeds were not compared with fp32's.

    Of what no other beats and does not lose quality, the fastest; of those that noise does not set apart from it, the
    smallest.
    """
    full = group.full
    if full is None or full.name not in compared.of:
        return None
    runs = [run for run in group.runs if run.name in compared.of]
    good = [run for run in runs if run is full or not _loses(run, losses)]
    front = whole_front(group, compared)
    among = [run for run in front if run in good] or good
    fastest = max(among, key=lambda run: compared.of[run.name].value)
    alike = [run for run in among if not compared.sign(fastest.name, run.name)]
    least = min(map(_mib, alike))
    smallest = [run for run in alike if _mib(run) <= least * (1 + SAME_SIZE)]
    chosen = max(smallest, key=lambda run: compared.of[run.name].value)
    lossy = [run for run in runs if run not in good and compared.sign(run.name, chosen.name) > 0]
    whole, own = metric(full, MIB), metric(chosen, MIB)
    is_full = chosen is full
    return Recommended(
        "batches" if compared.regime is BATCHES else "pairs",
        compared.regime.where,
        group.label(chosen),
        None if is_full else compared.ratio(chosen.name, full.name),
        None if is_full else interval(chosen, "parity/spearman_delta"),
        own / whole if own is not None and whole else None,
        [group.label(run) for run in lossy],
        [group.label(run) for run in front],
    )


def _loses(run: Result, losses: Mapping[str, Loss]) -> bool:
    """Whether Spearman is lower than fp32's by more than noise, or further from it than is tolerated."""
    loss = losses.get(run.name)
    return is_flagged(run) or (loss is not None and loss.is_shown and loss.delta.value < 0)


def _mib(run: Result) -> float:
    mib = metric(run, MIB)
    return float("inf") if mib is None else mib


def _bounds(key: str, value: Interval) -> dict[str, float]:
    return {key: value.value, f"{key}_lo": value.lo, f"{key}_hi": value.hi}
