"""The statements of the answer on aggregation: numbers, and the sentences made from them."""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_sweep.report.common.text import counted, first_few, interval_text, listed
from rwkv_sweep.stats.intervals import Interval


def percent(ratio: float) -> str:
    """A ratio of times as the percentage by which it exceeds 1: 1.18 as `18 %`, 1.004 as `0.4 %`."""
    value = abs(ratio - 1) * 100
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %"


@dataclass(frozen=True)
class Overhead:
    """Times of aggregations over that of final-layer inference, interleaved, in one regime.

    Attributes:
        where: `in packed batches`, `for single pairs`. ratios: label and ratio of each.
        control: final-layer inference against itself.
    """

    where: str
    ratios: list[tuple[str, Interval]]
    control: Interval | None

    def sign(self, ratio: Interval) -> int:
        """1 where slower by more than noise and by more than the control shows, -1 where faster, else 0."""
        low, high = (self.control.lo, self.control.hi) if self.control else (1.0, 1.0)
        if ratio.lo > 1 and ratio.value > high:
            return 1
        return -1 if ratio.hi < 1 and ratio.value < low else 0

    @property
    def slower(self) -> list[tuple[str, Interval]]:
        """Those measurably slower, the slowest first."""
        slower = [entry for entry in self.ratios if self.sign(entry[1]) > 0]
        return sorted(slower, key=lambda entry: -entry[1].value)

    @property
    def phrase(self) -> str:
        count = counted(len(self.ratios), "aggregation")
        if not self.slower:
            bound = percent(max(1.0, *(ratio.hi for _, ratio in self.ratios)))
            who = f"{self.ratios[0][0]} is" if len(self.ratios) == 1 else f"all {count} are"
            text = f"{self.where} none was measured: {who} at most {bound} slower"
            faster = [label for label, ratio in self.ratios if self.sign(ratio) < 0]
            return text + (f", and faster by more than noise with {first_few(faster)}" if faster else "")
        label, ratio = self.slower[0]
        text = f"{self.where} {len(self.slower)} of {count} {'is' if len(self.slower) == 1 else 'are'} slower by "
        text += f"more than noise, the slowest {label} by {percent(ratio.value)}, "
        text += f"{percent(ratio.lo)} to {percent(ratio.hi)}"
        rest = [ratio for _, ratio in self.ratios if self.sign(ratio) <= 0]
        return text + (f"; the others are at most {percent(max(1.0, *(r.hi for r in rest)))} slower" if rest else "")


@dataclass(frozen=True)
class Overheads:
    """What aggregation costs. blocks: that all of these run; None where they do not run all of the model's."""

    regimes: list[Overhead]
    blocks: int | None

    @property
    def text(self) -> str:
        over = f" over all {self.blocks} blocks" if self.blocks else " over fewer blocks than final-layer inference"
        phrases = ". ".join(regime.phrase[0].upper() + regime.phrase[1:] for regime in self.regimes)
        return f"Overhead of aggregating{over}, against final-layer inference, with 95 % intervals. {phrases}."


@dataclass(frozen=True)
class Control:
    """Final-layer inference against itself: what the ratios are where there is no difference."""

    ratios: list[tuple[str, Interval]]

    @property
    def text(self) -> str:
        phrases = listed([f"{ratio.lo - 1:+.1%} to {ratio.hi - 1:+.1%} {where}" for where, ratio in self.ratios])
        text = f"Final-layer inference timed against itself in the same way differs by {phrases.replace('%', ' %')}"
        text += ": differences of that size mean nothing."
        off = [where for where, ratio in self.ratios if not ratio.lo <= 1 <= ratio.hi]
        return text + (f" {listed(off).capitalize()} even that leaves out 1: the timing was disturbed." if off else "")


@dataclass(frozen=True)
class Memory:
    """MiB of peak memory of a full batch beyond final-layer inference, the most of any aggregation. kept: where every
    layer's tokens are kept to the end; kept_ratio: the largest ratio of time of that, with label and where."""

    streamed: float
    kept: float | None
    kept_ratio: tuple[str, str, Interval] | None

    @property
    def text(self) -> str:
        text = f"Peak memory of a full batch changes by at most {self.streamed:+.1f} MiB"
        if self.kept is not None:
            text += f"; keeping every layer's tokens to the end would add up to {self.kept:+.1f} MiB"
        if self.kept_ratio is not None:
            label, where, ratio = self.kept_ratio
            text += f" and take up to {ratio.value:.2f} times final-layer inference's time, {label} {where}"
        return text + "."


@dataclass(frozen=True)
class BestAggregation:
    """The aggregation with the highest Spearman against the final layer.

    Attributes:
        label, spearman, delta: of it, and less the final layer's; None where that was not recorded.
        adjusted: p-value after Holm's correction for `family` comparisons; None without one. survives: that it stands.
        among: how many aggregations were scored. alike: labels of those with the same Spearman.
    """

    label: str
    spearman: Interval
    delta: Interval | None
    adjusted: float | None
    survives: bool
    family: int
    among: int
    alike: list[str]

    @property
    def text(self) -> str:
        text = f"Best of {self.among} aggregations by Spearman: " if self.among > 1 else "Spearman of the aggregation: "
        text += f"{self.label}, {self.spearman.value:.3f}"
        text += f" (equal: {first_few(self.alike)})" if self.alike else ""
        if self.delta is None:
            return f"{text}; its difference to the final layer was not recorded."
        side = "above" if self.delta.value >= 0 else "below"
        text += f", {abs(self.delta.value):.3f} {side} the final layer, {interval_text(self.delta, '+.3f')}: "
        if self.adjusted is None:
            return f"{text}without a p-value."
        judged = f"after Holm's correction for {counted(self.family, 'comparison')}, p = {self.adjusted:.3g}"
        return f"{text}{'more than noise' if self.survives else 'within noise'} {judged}."


@dataclass(frozen=True)
class EarlyExit:
    """One layer alone: its time for a single pair over the final layer's. ends: the shallowest and the deepest, with
    label, blocks run and ratio. best: the one with the highest Spearman, with label, difference of Spearman and ratio.
    survives: whether that difference is more than noise."""

    ends: list[tuple[str, int, Interval]]
    blocks: int | None
    best: tuple[str, Interval, Interval] | None
    survives: bool | None

    @property
    def text(self) -> str:
        of = f" of {self.blocks}" if self.blocks else ""
        phrases = [f"{label}, {depth}{of} blocks, takes {ratio.value:.2f} times" for label, depth, ratio in self.ends]
        text = f"Stopping early: {listed(phrases)} the final layer's time for a single pair."
        if self.best is not None:
            label, delta, ratio = self.best
            noise = {True: ", more than noise", False: ", within noise", None: ""}[self.survives]
            if len(self.ends) == 1:
                return f"{text} Its Spearman: {delta.value:+.3f} against the final layer{noise}."
            text += f" Highest Spearman of those timed: {label}, {delta.value:+.3f} against the final layer{noise}, at "
            text += f"{ratio.value:.2f} times its time."
        return text


@dataclass(frozen=True)
class BestOfAll:
    """The highest Spearman across groups of runs."""

    label: str
    group: str
    spearman: Interval
    runs: int

    @property
    def text(self) -> str:
        return (
            f"Highest Spearman of all {counted(self.runs, 'run')}: {self.label} with {self.group}, "
            f"{self.spearman.value:.3f}, {interval_text(self.spearman)}. "
            "It was chosen after looking at all of them, so that "
            "its own number is optimistic."
        )


@dataclass(frozen=True)
class Gain:
    """The best aggregation against the best single layer, both chosen on a split that is not scored.

    Attributes:
        aggregation, single: labels. split: on which they were chosen. scored: the one they are compared on.
        difference: Spearman of the aggregation less that of the layer; `paired` says whether with its interval, by
            paired bootstrap.
        costs: of single pairs, or of packed batches where these alone were timed, the times over that of final-layer
            inference: where, of the aggregation, of the layer.
    """

    aggregation: str
    single: str
    split: str
    scored: str
    difference: Interval
    paired: bool
    costs: list[tuple[str, Interval, Interval]]

    @property
    def text(self) -> str:
        side = "above" if self.difference.value >= 0 else "below"
        text = f"Chosen on {self.split}, the best aggregation is {self.aggregation} and the best single layer "
        text += f"{self.single}. On {self.scored} the aggregation is {abs(self.difference.value):.3f} {side} it"
        if self.paired:
            noise = "within noise" if self.difference.lo <= 0 <= self.difference.hi else "more than noise"
            text += f", {interval_text(self.difference, '+.3f')}, {noise}"
        if not self.costs:
            return f"{text}; what it costs was not timed."
        phrases = [f"{where} {own.value:.2f} against {layer.value:.2f}" for where, own, layer in self.costs]
        return f"{text}. In times of final-layer inference it takes {listed(phrases)}."
