"""The splits that a sweep scored: their names as they were asked for, in that order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rwkv_sweep.evaluation.metric_names import metric_name
from rwkv_sweep.records.results import Result

_SPLIT = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
"""A name, with a slice such as `[:1000]` or `[10%:]` within it."""


def split_names(results: Sequence[Result]) -> list[str]:
    """Names of the splits that any run was given and has a Spearman of, in the order of the first that names them."""
    names = dict.fromkeys(name for run in results for name in run_splits(run))
    return [name for name in names if any(spearman_key(name) in run.metrics for run in results)]


def run_splits(run: Result) -> list[str]:
    """`[train[:1000],validation]` as `train[:1000]` and `validation`."""
    given = str(run.params.get("dataset.splits") or "").strip()
    inner = given[1:-1] if given.startswith("[") and given.endswith("]") else given
    return [name.strip().strip("'\"") for name in _SPLIT.findall(inner)]


def spearman_key(split: str) -> str:
    """The metric of a split's Spearman."""
    return f"quality/{metric_name(split)}/spearman"
