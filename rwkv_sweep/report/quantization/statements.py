"""The statements of the answer on quantization: numbers, and the sentences made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rwkv_sweep.report.common.text import counted, first_few, interval_text, listed, times
from rwkv_sweep.stats.intervals import Interval


@dataclass(frozen=True)
class Loss:
    """Spearman of a precision less that of fp32. is_shown: whether it is more than noise, for all precisions together
    (Holm)."""

    label: str
    delta: Interval
    is_shown: bool

    @property
    def phrase(self) -> str:
        return f"{self.label} by {self.delta.value:+.3f}, {interval_text(self.delta, '+.3f')}"


@dataclass(frozen=True)
class Fastest:
    """The fastest precisions in one regime.

    Attributes:
        where: `in packed batches`, `for single pairs`.
        labels: the fastest and those that noise does not set apart from it, without fp32.
        ratio: speed of the fastest over fp32's; None where fp32 is among the fastest. cost: of these, which change
            Spearman by more than noise.
    """

    where: str
    labels: list[str]
    ratio: Interval | None
    cost: list[Loss]

    @property
    def phrase(self) -> str:
        if self.ratio is None:
            alike = f", {first_few(self.labels)} as fast" if self.labels else ""
            return f"{self.where} nothing is faster than fp32{alike}"
        return f"{self.where} {first_few(self.labels)}, at {times(self.ratio, 'fp32')}"


@dataclass(frozen=True)
class Verdict:
    """The fastest precision in each regime. unknown: whether quality was not compared. not_compared: of each regime
    that was not timed so, where and why not."""

    fastest: list[Fastest]
    unknown: bool
    not_compared: list[tuple[str, str]]

    @property
    def text(self) -> str:
        text = f"Fastest: {listed([regime.phrase for regime in self.fastest], ';')}."
        for where, why_not in self.not_compared:
            text += f" No precision is called the fastest {where}: {why_not}."
        gains = [regime for regime in self.fastest if regime.ratio is not None]
        if not gains or self.unknown:
            return text
        cost = {loss.label: loss for regime in gains for loss in regime.cost}
        if not cost:
            return f"{text} That costs no Spearman that noise could not explain."
        changes = listed([loss.phrase for loss in cost.values()], ";")
        return f"{text} That changes Spearman by more than noise: {changes}."


@dataclass(frozen=True)
class OverBase:
    """Quantizations against the same dtype without them, in one regime.

    Attributes:
        faster, slower, alike: label, label of the base, speed over it.
    """

    where: str
    faster: list[tuple[str, str, float]]
    slower: list[tuple[str, str, float]]
    alike: list[tuple[str, str, float]]

    @property
    def text(self) -> str:
        parts = []
        for how, those in (("slower", self.slower), ("faster", self.faster)):
            if those:
                parts.append(f"{how} with {_spread(those)}")
        if self.alike:
            parts.append(f"no measurable difference with {first_few([label for label, *_ in self.alike])}")
        return f"Against the same dtype without quantization, {self.where}: {listed(parts, ';')}."


def _spread(those: Sequence[tuple[str, str, float]]) -> str:
    """`int8, at 0.50 times the speed of fp16`; of several, from the least to the largest ratio."""
    if len(those) == 1:
        ((label, base, ratio),) = those
        return f"{label}, at {ratio:.2f} times the speed of {base}"
    ratios = [ratio for *_, ratio in those]
    return f"{first_few([label for label, *_ in those])}, at {min(ratios):.2f} to {max(ratios):.2f} times the speed"


@dataclass(frozen=True)
class Losses:
    """Changes of Spearman against fp32, of every precision that was compared."""

    losses: list[Loss]

    @property
    def text(self) -> str:
        shown = [loss for loss in self.losses if loss.is_shown]
        largest = max(self.losses, key=lambda loss: abs(loss.delta.value))
        precisions = counted(len(self.losses), "precision")
        if shown:
            rest = len(self.losses) - len(shown)
            text = f"Spearman differs from fp32's by more than noise in {len(shown)} of {precisions}: "
            text += (
                first_few([loss.phrase for loss in shown])
                if len(shown) == 1
                else listed([loss.phrase for loss in shown[:4]], ";")
            )
            text += f"; and {len(shown) - 4} more" if len(shown) > 4 else ""
            return text + ("." if not rest else f". The other {rest}: within noise.")
        if abs(largest.delta.value) < 0.0005:
            return f"Spearman is that of fp32 to within 0.0005 in {precisions}."
        return (
            f"Spearman differs from fp32's by no more than noise in {precisions}; the largest change is that of "
            f"{largest.phrase}."
        )


@dataclass(frozen=True)
class Sizes:
    """MiB of weights without the embedding table. whole: of `half`, the 16-bit run. labels: the smallest, and those of
    the same size. of: how many quantized runs there are."""

    half: str
    whole: float
    smallest: float
    labels: list[str]
    of: int

    @property
    def text(self) -> str:
        alike = f"all {self.of} quantized runs alike" if self.of == len(self.labels) > 1 else first_few(self.labels)
        return (
            f"Weights shrink to {self.smallest / self.whole:.0%} of {self.half}'s, from {self.whole:,.1f} to "
            f"{self.smallest:,.1f} MiB without the embedding table, with {alike}."
        )


@dataclass(frozen=True)
class Blocks:
    """Damage of quantizing one block alone, 1 - mean cosine with fp32, by block. together: that of all blocks."""

    kind: str
    damages: dict[int, float]
    together: float | None

    @property
    def text(self) -> str:
        worst, least = max(self.damages, key=self.damages.__getitem__), min(self.damages, key=self.damages.__getitem__)
        text = (
            f"One block at a time in {self.kind}, block {worst} moves the embeddings most, to a mean cosine with "
            f"fp32's of 1 - {self.damages[worst]:.2e}, and block {least} least, to 1 - {self.damages[least]:.2e}."
        )
        if self.together is not None:
            text += f" All blocks together: 1 - {self.together:.2e}; the single ones summed: "
            text += f"{sum(self.damages.values()):.2e}."
        return text


@dataclass(frozen=True)
class Unsupported:
    """Precisions that this machine cannot run; the report has the reasons."""

    labels: list[str]

    @property
    def text(self) -> str:
        return f"Not supported on this machine: {listed(self.labels)}; the table has the reasons."
