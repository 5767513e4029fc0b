"""Several models side by side, in statements, from the recorded numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rwkv_sweep.report.common.ranking import Ranking
from rwkv_sweep.report.common.run_groups import interval, layer, metric
from rwkv_sweep.report.common.statements import Answer, Plain, Records, Section
from rwkv_sweep.report.generations.models import ModelRuns, microseconds_per_token, model_runs
from rwkv_sweep.report.plain_sweep.answer import plain_answer
from rwkv_sweep.stats.intervals import Interval

QUESTION = "Which model is best, at which depth, and what does a token cost in each?"
ONE_MODEL = (
    "Only one model has a finished run, so there is nothing to set side by side (model.path=A,B,... names several)."
)


@dataclass(frozen=True)
class OneModel:
    """A model at its best layer, what its final layer has, and what its layers cost.

    Attributes:
        spearman: of the best layer. share: of the blocks that run for it.
        final: Spearman of the final layer.
        cheapest, dearest: microseconds a token, over the layers that were timed.
        weights_mib: of all its weights.
    """

    best: str
    spearman: Interval
    share: float | None
    final: float | None
    cheapest: float | None
    dearest: float | None
    weights_mib: float | None

    @property
    def text(self) -> str:
        """See `Statement.text`."""
        name = f"layer {self.best}" if self.best.isdigit() else f"the {self.best} layer"
        where = f", after {self.share:.0%} of the blocks" if self.share else ""
        text = (
            f"Highest at {name}{where}: Spearman {self.spearman.value:.3f}, 95 % interval "
            f"{self.spearman.lo:.3f} to {self.spearman.hi:.3f}"
        )
        text += "." if self.final is None else f"; the final layer has {self.final:.3f}."
        if self.cheapest is not None and self.dearest is not None:
            text += f" A token takes {self.cheapest:.3g} to {self.dearest:.3g} microseconds, by layer."
        return text if self.weights_mib is None else f"{text} Weights: {self.weights_mib:.1f} MiB."


def generations_answer(records: Records, ranked: Sequence[Ranking], swept: Sequence[str]) -> Answer:
    """What the pairs show over all runs, then a section for each model."""
    models = model_runs(records.results)
    sections = list(plain_answer(records, ranked, swept).sections)
    sections += [Section(model.name, [statement]) for model in models if (statement := _one_model(model))]
    if len(models) == 1:
        sections.append(Section("", [Plain(ONE_MODEL)]))
    return Answer(QUESTION, sections)


def _one_model(model: ModelRuns) -> OneModel | None:
    best = model.best()
    own = interval(best, "quality/spearman") if best is not None else None
    if best is None or own is None:
        return None
    final = next((run for run in model.runs if layer(run) == "final"), None)
    times = [time.value for run in model.runs if (time := microseconds_per_token(run)) is not None]
    return OneModel(
        layer(best),
        own,
        model.relative_depth(best),
        None if final is None or final is best else metric(final, "quality/spearman"),
        min(times, default=None),
        max(times, default=None),
        metric(best, "memory/weights_mib"),
    )
