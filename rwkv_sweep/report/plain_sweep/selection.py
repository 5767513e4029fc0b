"""The configuration that wins on the split to choose on, and its figure on the scored split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rwkv_sweep.errors import NonFiniteError, UndefinedError
from rwkv_sweep.evaluation.metrics import paired_difference
from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.ranking import Ranking, recorded_scores
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.common.splits import spearman_key
from rwkv_sweep.report.common.statements import Answer, Records
from rwkv_sweep.report.common.text import counted, interval_text, listed
from rwkv_sweep.stats.intervals import Interval

RESAMPLES, SEED = 2000, 0
LIMITS = {
    "max_latency_ms": ("latency/mean_ms", "ms for a pair"),
    "max_weights_mib": ("memory/weights_mib", "MiB of weights"),
}
"""Keys of `select` that bound a metric: the metric, and its unit in words."""
IN_WORDS = {"average_precision": "average precision", "auc": "AUC", "fit_score": "cross-validated score of its probe"}


@dataclass(frozen=True)
class Chosen:
    """The run that is chosen on one split, and what it is worth on another.

    Attributes:
        name, label: of the run. by: the metric that chose it. split: on which. value: of the metric there.
        scored: the split that is scored. spearman: of the run there. among: how many runs it was chosen from.
        highest: label of the run with the highest Spearman on the scored split. most: that Spearman.
        loss: `most` less the run's own Spearman, by paired bootstrap; None for the same run, or without scores.
        limits: conditions that the run had to meet. excluded: how many runs do not meet them. unknown: how many have
            not been measured for them.
    """

    name: str
    label: str
    by: str
    split: str
    value: float
    scored: str
    spearman: Interval
    among: int
    highest: str
    most: Interval
    loss: Interval | None
    limits: list[str] = field(default_factory=list)
    excluded: int = 0
    unknown: int = 0

    @property
    def text(self) -> str:
        words = self.by.split("/")[-1]
        what = IN_WORDS.get(words, words.capitalize())
        text = f"Chosen on {self.split} by {what} among {counted(self.among, 'run')}"
        text += f" with {listed(self.limits)}" if self.limits else ""
        text += f": {self.label}, {self.value:.3f} there. On {self.scored} it has a Spearman of "
        text += f"{self.spearman.value:.3f}, {interval_text(self.spearman)}"
        if self.highest == self.label:
            text += f", the highest on {self.scored} too."
        else:
            text += f". The highest on {self.scored}, {self.highest} with {self.most.value:.3f}, is optimistic, as the "
            text += "pairs that choose it also score it"
            text += f"; it is {self.loss.value:.3f} above, {interval_text(self.loss, '+.3f')}." if self.loss else "."
        if self.excluded:
            text += f" Beyond these limits: {counted(self.excluded, 'run')}."
        if self.unknown:
            text += f" Not measured for these limits, and left out: {counted(self.unknown, 'run')}."
        return text

    def metrics(self) -> dict[str, float]:
        """For the run of the sweep in MLflow: figures of the chosen run on the scored split, and its loss."""
        own = self.spearman.metrics("select/spearman") | {"select/value": self.value}
        loss = Interval(0.0, 0.0, 0.0) if self.highest == self.label else self.loss
        return own | (loss.metrics("select/loss") if loss is not None else {})

    def tags(self) -> dict[str, str]:
        """For the run of the sweep in MLflow."""
        return {"select.run": self.name, "select.label": self.label, "select.split": self.split, "select.by": self.by}


def chosen(ranking: Ranking, records: Records, labels: Mapping[str, str]) -> list[Chosen]:
    """One statement where runs have figures on a split to choose on; none where no run has, or none meets the limits.

    Args:
        ranking: the runs to choose from, on the scored split.
    """
    key = str(records.select.get("by", "quality/spearman")).replace("quality/", "select/")
    # In the order of the records: that of the ranking is decided by the scored split.
    ours = [run for run in records.results if any(run is ranked for ranked in ranking.runs)]
    candidates = [run for run in ours if metric(run, key) is not None]
    kept = [run for run in candidates if all(_meets(run, records, name) for name in LIMITS)]
    unknown = sum(any(_meets(run, records, name) is None for name in LIMITS) for run in candidates)
    if len(candidates) < 2 or not kept:
        return []
    best = max(kept, key=lambda run: metric(run, key) or 0.0)
    top = ranking.among(kept).runs[0]
    limits = [
        f"at most {bound:g} {unit}"
        for name, (_, unit) in LIMITS.items()
        if (bound := _bound(records, name)) is not None
    ]
    excluded = len(candidates) - len(kept) - unknown
    own, most = (_spearman(run, ranking) for run in (best, top))
    return [
        Chosen(
            best.name,
            labels[best.name],
            key,
            str(best.params.get("select.split")),
            metric(best, key) or 0.0,
            ranking.split,
            own,
            len(candidates),
            labels[top.name],
            most,
            None if top is best else _loss(top, best, records, ranking.split),
            limits,
            excluded,
            unknown,
        )
    ]


def _bound(records: Records, name: str) -> float | None:
    bound = records.select.get(name)
    return float(bound) if isinstance(bound, (int, float)) else None


def _meets(run: Result, records: Records, name: str) -> bool | None:
    """Whether a run keeps a limit, which is true where there is none; None where it was not measured."""
    bound, value = _bound(records, name), metric(run, LIMITS[name][0])
    if bound is None:
        return True
    return None if value is None else value <= bound


def _spearman(run: Result, ranking: Ranking) -> Interval:
    key = spearman_key(ranking.split)
    value = metric(run, key) or 0.0
    return interval(run, key) or Interval(value, value, value)


def _loss(top: Result, best: Result, records: Records, split: str) -> Interval | None:
    ours, theirs = recorded_scores(records.folder(top), split), recorded_scores(records.folder(best), split)
    if ours is None or theirs is None or ours[0].tolist() != theirs[0].tolist():
        return None
    try:
        paired = paired_difference(ours[1], theirs[1], ours[0], RESAMPLES, SEED)
    except (NonFiniteError, UndefinedError):
        return None
    return Interval(paired.value, paired.lo, paired.hi)


def chosen_run(answer: Answer) -> Chosen | None:
    """The one run that an answer chooses; None where it chooses none, or one for each of several data sets."""
    choices = [one for section in answer.sections for one in section.statements if isinstance(one, Chosen)]
    return choices[0] if len(choices) == 1 else None
