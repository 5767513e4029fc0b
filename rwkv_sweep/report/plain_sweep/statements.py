"""The statements of the answer of any sweep: numbers, and the sentences made from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from rwkv_sweep.report.common.text import counted, first_few, interval_text, listed, times
from rwkv_sweep.stats.intervals import Interval

FEW_PAIRS = 100
"""Scored pairs below which a warning is due: the interval of a Spearman is then 0.4 wide or wider."""


@dataclass(frozen=True)
class Best:
    """The run with the highest Spearman, and which others the pairs cannot distinguish from it.

    Attributes:
        label, spearman: of that run. split: on which. runs: how many were scored.
        alike: labels of the others that are not shown to be worse.
        left_out: runs that were fitted on what they are scored on, and are not compared.
        compared: whether the runs' scores could be compared with each other.
    """

    label: str
    spearman: Interval
    split: str
    runs: int
    alike: list[str] = field(default_factory=list)
    left_out: int = 0
    compared: bool = True

    @property
    def text(self) -> str:
        own = f"{self.label}, with a Spearman of {self.spearman.value:.3f} on split {self.split}, "
        own += interval_text(self.spearman)
        others = self.runs - 1
        if not others:
            text = f"One run: {own}."
        elif not self.compared:
            text = f"Highest: {own}. Whether noise explains its lead is not known: the runs' scores are missing."
        elif not self.alike:
            worse = {1: "the other run is", 2: "both other runs are"}.get(others, f"all {others} other runs are")
            text = f"Best by more than noise: {own}; {worse} shown to be worse."
        elif len(self.alike) == others:
            text = f"The pairs cannot distinguish the {self.runs} runs. Highest: {own}."
        else:
            text = f"Highest: {own}. Noise could explain its lead over {len(self.alike)} of the other {others} runs: "
            text += f"{first_few(self.alike)}."
        if self.left_out:
            text += f" Not compared: {counted(self.left_out, 'run')} fitted on the very sentences that are scored."
        return text


@dataclass(frozen=True)
class Against:
    """One reference: its own Spearman, and that of the best run less it. survives: Holm's correction."""

    name: str
    own: Interval | None
    delta: Interval
    survives: bool | None

    @property
    def phrase(self) -> str:
        side = "above" if self.delta.value >= 0 else "below"
        noise = {True: "more than noise", False: "within noise", None: "not tested"}[self.survives]
        return f"{abs(self.delta.value):.3f} {side} {self.name}, {noise}"

    @property
    def is_nothing(self) -> bool:
        """Whether the reference's own Spearman cannot be distinguished from 0."""
        return self.own is not None and self.own.lo <= 0 <= self.own.hi


@dataclass(frozen=True)
class Baselines:
    """The best run against each baseline. family: comparisons that Holm's correction is for. runs: how many the best is
    the best of, so that what is below a baseline with it is so with all of them. left_out: runs not compared, which may
    be higher."""

    label: str
    split: str
    against: list[Against]
    family: int
    runs: int = 1
    left_out: int = 0

    @property
    def text(self) -> str:
        higher = [baseline.name for baseline in self.against if baseline.delta.value < 0]
        none = f"None of the {self.runs} compared runs" if self.left_out else "No run"
        text = f"{none} reaches the Spearman of {listed(higher)}. " if higher and self.runs > 1 else ""
        text += f"Against the baselines, {self.label} is {listed([baseline.phrase for baseline in self.against], ';')}."
        if self.family > 1 and any(baseline.survives is not None for baseline in self.against):
            text += f" Noise is judged for all {self.family} comparisons of the sweep together, by Holm's correction."
        nothing = [baseline.name for baseline in self.against if baseline.is_nothing]
        if nothing:
            text += f" The Spearman of {listed(nothing)} cannot itself be distinguished from 0, so being above it"
            text += " says little."
        return text


@dataclass(frozen=True)
class Cheapest:
    """In one regime, the fastest of the runs that the pairs cannot distinguish from the best.

    Attributes:
        where: `in packed batches`, `for single pairs`. labels: the fastest, and those as fast.
        best: the run with the highest Spearman.
        ratio: speed of the fastest over that of the best; None where the best is among the fastest.
        among: how many runs it was chosen from. left_out: how many more were timed, but not on one scale with these.
    """

    where: str
    labels: list[str]
    best: str
    ratio: Interval | None
    among: int
    left_out: int = 0

    @property
    def phrase(self) -> str:
        return self._fastest + (f", of the {self.among} that were timed on one scale" if self.left_out else "")

    @property
    def _fastest(self) -> str:
        if self.ratio is None:
            alike = [label for label in self.labels if label != self.best]
            return f"{self.where} {self.best} itself" + (f", and as fast {first_few(alike)}" if alike else "")
        return f"{self.where} {first_few(self.labels)}, at {times(self.ratio, self.best)}"


@dataclass(frozen=True)
class Cost:
    """What is cheapest without a measurable loss.

    Attributes:
        regimes: of each that was timed on one scale. not_compared: of each other one, where and why not.
        fewest: of the same runs, those that run the fewest blocks, and how many these are, of how many.
    """

    regimes: list[Cheapest]
    fewest: list[str]
    blocks: int
    of_blocks: int
    not_compared: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        parts = []
        if self.regimes:
            phrases = listed([regime.phrase for regime in self.regimes], ";")
            parts.append(f"Fastest of the runs that are not shown to be worse than the best: {phrases}.")
        elif self.blocks < self.of_blocks:
            runs = "runs" if len(self.fewest) == 1 else "run"
            parts.append(
                f"Of the runs that are not shown to be worse than the best, {first_few(self.fewest)} {runs} the fewest "
                f"blocks, {self.blocks}."
            )
        parts += [f"No run is called the fastest {where}: {why_not}." for where, why_not in self.not_compared]
        return " ".join(parts)


@dataclass(frozen=True)
class OtherSplit:
    """The run that was chosen on the first split, on another."""

    label: str
    split: str
    chosen_on: str
    spearman: Interval
    against: list[Against]

    @property
    def text(self) -> str:
        text = f"On split {self.split}, {self.label}, chosen on {self.chosen_on}, has a Spearman of "
        text += f"{self.spearman.value:.3f}, {interval_text(self.spearman)}"
        phrases = [
            f"{abs(other.delta.value):.3f} {'above' if other.delta.value >= 0 else 'below'} {other.name}, "
            f"{interval_text(other.delta, '+.3f')}"
            for other in self.against
        ]
        return text + (f": {listed(phrases, ';')}." if phrases else ".")


@dataclass(frozen=True)
class Caution:
    """What weakens the statements. pairs: scored. runs: chosen from. unsure: labels of runs, or of the final layer,
    whose own Spearman cannot be distinguished from 0. held_out: whether another split shows the chosen run. more:
    sentences."""

    pairs: int
    runs: int
    no_signal: bool
    held_out: bool
    more: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        parts = []
        if self.pairs < FEW_PAIRS:
            parts.append(f"Only {counted(self.pairs, 'pair')} were scored, which can show large differences alone.")
        if self.no_signal:
            parts.append("No run's Spearman can be distinguished from 0.")
        if self.runs > 1 and not self.held_out:
            parts.append(
                f"The best was chosen after looking at {self.runs} runs, so that its own number is optimistic; "
                "a second split would show by how much."
            )
        return " ".join([*parts, *self.more])
