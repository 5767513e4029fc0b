"""The runs of a sweep as a report needs them: grouped by what they share, sorted, with names for people.

A configuration is a choice of layers and of their aggregation. Runs that differ in anything else (precision,
pooling, ...) are never compared with each other: they stand in groups of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.stats.intervals import Interval

CONFIGURATION_KEYS = (
    *("layer", "depth", "aggregation", "aggregation.normalize", "aggregation.weights"),
    *("aggregation.fit", "aggregation.learned", "select.split"),
)
TRANSDUCTIVE = "transductive"
NOT_NAMED = (None, "", "None", TRANSDUCTIVE)
"""What `postprocess.fit` and `pooling.fit` say where nothing but the scored sentences was fitted on."""


@dataclass(frozen=True)
class Group:
    """Finished runs that share everything but layers and aggregation.

    Attributes:
        name: what sets this group apart, such as `precision=int8`; empty where the sweep has one group.
        singles: runs of one layer, by depth, the final layer last. aggregates: runs of several layers.
        normalizes: whether the sweep varies aggregation.normalize, so that labels must name it.
    """

    name: str
    singles: list[Result] = field(default_factory=list)
    aggregates: list[Result] = field(default_factory=list)
    normalizes: bool = False

    @property
    def runs(self) -> list[Result]:
        return self.singles + self.aggregates

    @property
    def final(self) -> Result | None:
        """The run of final-layer inference."""
        return next((run for run in self.singles if layer(run) == "final"), None)

    @property
    def blocks(self) -> int | None:
        """Blocks of the model, known from a run of `final` or `all`; None without one."""
        return next((depth(run) for run in self.runs if layer(run).split("+")[-1] in ("final", "all")), None)

    def label(self, run: Result) -> str:
        """What the run embeds with: `final layer`, `layer 5`, `mean of all`, `concat of 8-11`."""
        if run in self.singles:
            name = layer(run)
            text = f"layer {name}" if name.isdigit() else f"{name} layer"
        else:
            how = str(run.params["aggregation"])
            weights = run.params.get("aggregation.weights")
            if how == "weighted" and weights is not None:
                how += f" ({weights})"
            text = f"{how} of {short_layers(layer(run))}"
            if self.normalizes:
                text += f", norm {run.params.get('aggregation.normalize')}"
        return text + (f" ({TRANSDUCTIVE})" if is_transductive(run) else "")


def groups(results: Sequence[Result]) -> list[Group]:
    """The finished model runs of a sweep in groups, in the order of their first runs."""
    runs = [result for result in results if result.kind == "model" and result.status == FINISHED]
    keys = differing(runs, CONFIGURATION_KEYS)
    normalizes = len({str(run.params.get("aggregation.normalize")) for run in runs if _aggregates(run)}) > 1
    by_name: dict[str, Group] = {}
    for run in runs:
        name = ", ".join(f"{key}={run.params.get(key)}" for key in keys)
        group = by_name.setdefault(name, Group(name, normalizes=normalizes))
        (group.aggregates if _aggregates(run) else group.singles).append(run)
    for group in by_name.values():
        group.singles.sort(key=lambda run: (layer(run) == "final", depth(run)))
    return list(by_name.values())


def layer(run: Result) -> str:
    return str(run.params.get("layer", "?"))


def depth(run: Result) -> int:
    """Blocks the run executed; 0 where it does not say."""
    text = str(run.params.get("depth"))
    return int(text) if text.isdecimal() else 0


def is_transductive(run: Result) -> bool:
    """Whether post-processing or the weights of `pooling=idf` were fitted on the very sentences that are scored."""
    processed = run.params.get("postprocess") not in (None, "", "none", "head")
    if processed and run.params.get("postprocess.fit") in NOT_NAMED:
        return True
    fit, corpus = run.params.get("pooling.fit"), run.params.get("pooling.corpus")
    named = fit != TRANSDUCTIVE and (fit not in NOT_NAMED or corpus not in NOT_NAMED)
    return run.params.get("pooling") == "idf" and not named


def metric(run: Result, key: str) -> float | None:
    """A metric, None where the run has none or it is no number."""
    value = run.metrics.get(key)
    return value if value is not None and math.isfinite(value) else None


def interval(run: Result, key: str) -> Interval | None:
    """A metric with its bounds `<key>_lo` and `<key>_hi`, None unless all three are there."""
    value, lo, hi = (metric(run, key + suffix) for suffix in ("", "_lo", "_hi"))
    return None if value is None or lo is None or hi is None else Interval(value, lo, hi)


def _aggregates(run: Result) -> bool:
    several = layer(run) == "all" or "+" in layer(run)
    return several and run.params.get("aggregation", "none") != "none"


def differing(runs: Sequence[Result], own: Sequence[str]) -> list[str]:
    """Keys, other than `own`, that differ between runs; `group.key` only where `group` itself does not."""
    keys = dict.fromkeys(key for run in runs for key in run.params if key not in own)
    varied = [key for key in keys if len({str(run.params.get(key)) for run in runs}) > 1]
    return [key for key in varied if key.split(".")[0] not in varied or "." not in key]


def short_layers(name: str) -> str:
    """`8+9+10+11` as `8-11`: several layers that follow each other, by the first and the last."""
    parts = name.split("+")
    if len(parts) > 2 and all(part.isdigit() for part in parts):
        numbers = [int(part) for part in parts]
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{parts[0]}-{parts[-1]}"
    return name
