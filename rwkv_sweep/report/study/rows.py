"""The rows of the study's table, each with what it reported and what this sweep measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rwkv_sweep.evaluation.metric_names import metric_name
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.common.run_groups import Group, groups, interval, layer, metric
from rwkv_sweep.report.study.published import DATASETS, GLOVE, LAYERS, TRAIN, VALIDATION, Published
from rwkv_sweep.stats.intervals import Interval

STUDY_SPLITS = (TRAIN, VALIDATION)
NOTHING = Published({})


@dataclass(frozen=True)
class Row:
    """label: what it is. run: None where this sweep has nothing for it. group: what sets its runs apart."""

    label: str
    published: Published
    run: Result | None
    group: str = ""

    def spearman(self, split: str) -> Interval | None:
        """Measured, with its 95 % interval."""
        return None if self.run is None else interval(self.run, f"quality/{metric_name(split)}/spearman")

    def difference(self, split: str) -> float | None:
        """Measured less published."""
        ours, theirs = self.spearman(split), self.published.spearman.get(split)
        return None if ours is None or theirs is None else ours.value - theirs

    def inside(self, split: str) -> bool | None:
        """Whether the published figure is in the measured interval."""
        ours, theirs = self.spearman(split), self.published.spearman.get(split)
        return None if ours is None or theirs is None else ours.lo <= theirs <= ours.hi

    def measured(self, key: str) -> float | None:
        return None if self.run is None else metric(self.run, key)


def model_rows(results: Sequence[Result]) -> list[Row]:
    """A row for each run of a layer, by group and depth, and one for each of the study's layers that no run has."""
    all_rows: list[Row] = []
    for group in groups(results):
        rows = [Row(group.label(run), _published(run), run, group.name) for run in group.singles]
        rows += [Row(group.label(run), NOTHING, run, group.name) for run in group.aggregates]
        all_rows += sorted([*rows, *_missing(group)], key=_depth)
    return all_rows


def baseline_rows(results: Sequence[Result]) -> list[Row]:
    """GloVe's row, whether or not it was run, and those of the other baselines."""
    runs = [result for result in results if result.kind == "baseline" and result.status == FINISHED]
    glove = [run for run in runs if is_glove(run)]
    known = {True: GLOVE, False: NOTHING}
    rows = [Row("GloVe 6B 50d", known[run.params.get("dataset") in DATASETS], run) for run in glove] or [
        Row("GloVe 6B 50d", GLOVE, None)
    ]
    return rows + [Row(_baseline_name(run), NOTHING, run) for run in runs if run not in glove]


def splits(results: Sequence[Result]) -> list[str]:
    """The study's, then what else was scored."""
    scored = [str(run.params.get("dataset.splits", "")) for run in results if run.kind == "model"]
    own = [split for names in scored for split in names.strip("[]").split(",") if split and "[" not in split]
    return list(dict.fromkeys([*STUDY_SPLITS, *own]))


def is_glove(run: Result) -> bool:
    """Whether a baseline is word vectors from a file that calls itself GloVe; the packaged ones do not."""
    return run.name == "word_vectors" and "glove" in run.tags.get("vectors", "").lower()


def _published(run: Result) -> Published:
    """Nothing for a layer that the study does not report, or on other data."""
    name = layer(run)
    if not name.isdigit() or run.params.get("dataset") not in DATASETS:
        return NOTHING
    return LAYERS.get(int(name), NOTHING)


def _missing(group: Group) -> list[Row]:
    there = {layer(run) for run in group.singles}
    return [
        Row(f"layer {number}", published, None, group.name)
        for number, published in LAYERS.items()
        if str(number) not in there
    ]


def _depth(row: Row) -> tuple[bool, int]:
    name = row.label.removeprefix("layer ")
    return not name.isdigit(), int(name) if name.isdigit() else 0


def _baseline_name(run: Result) -> str:
    vectors = run.tags.get("vectors")
    return f"{run.name.replace('_', ' ')} ({vectors})" if vectors else run.name.replace("_", " ")
