"""The runs of a sweep over several models, brought to one scale of depth.

A group is what `run_groups` makes: runs that share everything but the layer, so one model in one precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.run_groups import Group, depth, groups, interval, metric
from rwkv_sweep.stats.intervals import Interval

MICROSECONDS = 1e6
GENERATION_TAG = "generation"


@dataclass(frozen=True)
class ModelRuns:
    """The runs of one layer each of one model.

    Attributes:
        name: of the model, with its generation: `RWKV-5 rwkv5-tiny-bytes`.
        blocks: how many it has; None where no run of `final` says it.
        runs: by depth, the final layer last.
    """

    name: str
    blocks: int | None
    runs: Sequence[Result]

    def relative_depth(self, run: Result) -> float | None:
        """Share of the model's blocks that the run executed: 0 for the embedding, 1 for the last block and `final`."""
        return None if not self.blocks else depth(run) / self.blocks

    def best(self) -> Result | None:
        """The run with the highest Spearman; None where quality was not measured."""
        scored = [run for run in self.runs if metric(run, "quality/spearman") is not None]
        return max(scored, key=lambda run: metric(run, "quality/spearman") or 0.0) if scored else None


def model_runs(results: Sequence[Result]) -> list[ModelRuns]:
    """The finished runs of one layer, model by model, in the order of their first runs."""
    own = [group for group in groups(results) if group.singles]
    names = [_name(group) for group in own]
    return [
        # Where two groups have one name, what sets them apart is named too.
        ModelRuns(name if names.count(name) == 1 else f"{name} ({group.name})", group.blocks, group.singles)
        for name, group in zip(names, own, strict=True)
    ]


def _name(group: Group) -> str:
    run = group.singles[0]
    path, option = run.params.get("model.path"), str(run.params.get("model"))
    model = PurePath(str(path)).stem if path not in (None, "", "None") else option
    return " ".join(filter(None, (run.tags.get(GENERATION_TAG, ""), model)))


def microseconds_per_token(run: Result) -> Interval | None:
    """Time of a token in packed batches, with its interval; None where throughput was not measured."""
    rate = interval(run, "throughput/tokens_per_s")
    if rate is None or rate.lo <= 0:
        return None
    return Interval(MICROSECONDS / rate.value, MICROSECONDS / rate.hi, MICROSECONDS / rate.lo)


def memory_mib(run: Result) -> float | None:
    """Peak of the run: what a GPU allocated, or the whole process on a CPU."""
    on_gpu = metric(run, "memory/peak_allocated_mib")
    return metric(run, "memory/process_peak_mib") if on_gpu is None else on_gpu
