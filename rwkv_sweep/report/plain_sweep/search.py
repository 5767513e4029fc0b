"""What a search found: the configuration that wins on the split to choose on, and its figure on the scored split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.common.text import interval_text
from rwkv_sweep.stats.intervals import Interval


@dataclass(frozen=True)
class Searched:
    """The configuration that a search chose.

    Attributes:
        label: of the run that searched; empty where it is the only one.
        configurations: how many were scored. chosen, highest: the keys of the chosen one, and of the one with the
            highest Spearman on the scored split, which is `most`.
        split: on which it was chosen. value: its Spearman there. scored: the other. spearman: its Spearman there.
        loss: `most` less that, by paired bootstrap.
    """

    label: str
    configurations: int
    chosen: str
    highest: str
    split: str
    value: float
    scored: str
    spearman: Interval
    most: float
    loss: Interval

    @property
    def text(self) -> str:
        text = f"{self.label}: of" if self.label else "Of"
        text += f" {self.configurations:,} configurations searched, {self.split} chooses {self.chosen}, "
        text += f"{self.value:.3f} there. On {self.scored} it has a Spearman of {self.spearman.value:.3f}, "
        text += interval_text(self.spearman)
        if self.highest == self.chosen:
            return f"{text}, the highest on {self.scored} too."
        return (
            f"{text}. The highest on {self.scored}, {self.highest} with {self.most:.3f}, is optimistic; it is "
            f"{self.loss.value:.3f} above, {interval_text(self.loss, '+.3f')}."
        )


def searched(runs: Sequence[Result], scored: str, labels: Mapping[str, str]) -> list[Searched]:
    """A statement for each run that searched. scored: the first split."""
    statements = []
    for run in runs:
        own, loss, most = interval(run, "search/spearman"), interval(run, "search/loss"), metric(run, "search/highest")
        if own is None or loss is None or most is None or not {"search.chosen", "search.highest"} <= set(run.tags):
            continue
        statements.append(
            Searched(
                labels[run.name] if len(runs) > 1 else "",
                int(metric(run, "search/configurations") or 0),
                run.tags["search.chosen"],
                run.tags["search.highest"],
                str(run.params.get("select.split")),
                metric(run, "search/chosen_on") or 0.0,
                scored,
                own,
                most,
                loss,
            )
        )
    return statements
