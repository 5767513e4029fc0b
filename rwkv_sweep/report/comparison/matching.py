"""Two sweeps side by side: which run of one stands beside which of the other, and in what the sweeps differ."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import Result
from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.report.common.run_groups import differing

BOOKKEEPING = ("tracking.", "store.", "report", "resume", "on_error", "isolate", "timeout_s", "depth")
"""Params that say where a run's records go, or how it came to be run, not what it was."""
OWN_TAGS = ("note.", "energy.", "quality_source", "parity", "launcher", "isolated")
"""Tags about one run, not about the environment of a sweep."""


@dataclass(frozen=True)
class Sweep:
    """The runs of one folder. label: A or B. results and folders: in the same order."""

    label: str
    root: Path
    results: list[Result]
    folders: list[Path]

    @property
    def models(self) -> list[Result]:
        return [result for result in self.results if result.kind == "model"]

    def folder(self, result: Result) -> Path:
        return next(folder for other, folder in zip(self.results, self.folders, strict=True) if other is result)


@dataclass(frozen=True)
class Matched:
    """name: what sets this pair of runs apart from the others; the run's own name where nothing does."""

    name: str
    a: Result
    b: Result


@dataclass(frozen=True)
class Change:
    """A param or tag that all runs of a sweep share, with another value in the other sweep."""

    key: str
    a: str
    b: str


@dataclass(frozen=True)
class Matching:
    """matched: pairs of model runs. baselines: pairs of baselines, timed in both. changed: params, then tags.
    only_a, only_b: names of model runs that nothing stands beside."""

    matched: list[Matched]
    baselines: list[Matched]
    params: list[Change]
    tags: list[Change]
    only_a: list[str]
    only_b: list[str]


def load_sweep(label: str, root: Path) -> Sweep:
    """Read a sweep's or a run's folder.

    Raises:
        UserError: it is no folder, or contains no record of a run.
    """
    if not root.is_dir():
        raise UserError(f"{label}={root} is not a folder: valid is the folder of a sweep or of a run")
    records = list(zip(sweep_results(root), result_folders(root), strict=True))
    for result, _ in records:
        if result.is_damaged and result.error is not None:
            print(f"left out of {label}: {result.error['message']}", file=sys.stderr)
    whole = [record for record in records if not record[0].is_damaged]
    results, folders = [result for result, _ in whole], [folder for _, folder in whole]
    if not any(result.kind == "model" for result in results):
        raise UserError(f"{label}={root} contains no result.json of a run: valid is the folder of a sweep or of a run")
    return Sweep(label, root, results, folders)


def match(a: Sweep, b: Sweep) -> Matching:
    """Runs stand beside each other where all keys agree that vary within either sweep.

    A key that is constant within both, but not the same, is what changed between them: it keeps no runs apart.

    Raises:
        UserError: no run of one stands beside any of the other, with the keys that keep them apart.
    """
    keys = [key for key in _varied(a, b) if not key.startswith(BOOKKEEPING)]
    ours, theirs = _by_identity(a.models, keys), _by_identity(b.models, keys)
    shown = differing([*a.models, *b.models], [key for key in _all_keys(a, b) if key not in keys])
    matched = [Matched(_name(run, shown), run, theirs[key]) for key, run in ours.items() if key in theirs]
    if not matched:
        raise UserError(f"no run of A={a.root} stands beside one of B={b.root}: {_apart(a, b, keys)}")
    matched_ids = {id(run) for pair in matched for run in (pair.a, pair.b)}
    return Matching(
        matched,
        _baselines(a, b),
        _changes(a.models, b.models, lambda run: run.params, BOOKKEEPING),
        _changes(a.models, b.models, lambda run: run.tags, OWN_TAGS),
        [_name(run, shown) for run in a.models if id(run) not in matched_ids],
        [_name(run, shown) for run in b.models if id(run) not in matched_ids],
    )


def _all_keys(a: Sweep, b: Sweep) -> list[str]:
    return list(dict.fromkeys(key for run in [*a.models, *b.models] for key in run.params))


def _varied(a: Sweep, b: Sweep) -> list[str]:
    return [
        key
        for key in _all_keys(a, b)
        if any(len({str(run.params.get(key)) for run in sweep.models}) > 1 for sweep in (a, b))
    ]


def _by_identity(runs: Sequence[Result], keys: Sequence[str]) -> dict[tuple[str, ...], Result]:
    """The first run of each identity: repetitions of one are the same run measured again."""
    by_identity: dict[tuple[str, ...], Result] = {}
    for run in runs:
        by_identity.setdefault(tuple(str(run.params.get(key)) for key in keys), run)
    return by_identity


def _name(run: Result, keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={run.params.get(key)}" for key in keys) or run.name


def _apart(a: Sweep, b: Sweep, keys: Sequence[str]) -> str:
    """Keys of which the two have no value in common; of all, where it is a combination."""

    def values(sweep: Sweep, key: str) -> list[str]:
        return list(dict.fromkeys(str(run.params.get(key)) for run in sweep.models))

    disjoint = [key for key in keys if not set(values(a, key)) & set(values(b, key))] or list(keys)
    reasons = (
        f"{key} is {' '.join(values(a, key)[:5])} in A, {' '.join(values(b, key)[:5])} in B" for key in disjoint[:3]
    )
    return "; ".join(reasons)


def _baselines(a: Sweep, b: Sweep) -> list[Matched]:
    def key(run: Result) -> tuple[str, str, str]:
        return (run.name, str(run.params.get("dataset")), str(run.params.get("dataset.splits")))

    theirs = {key(run): run for run in b.results if run.kind == "baseline"}
    ours = [run for run in a.results if run.kind == "baseline"]
    return [Matched(run.name, run, theirs[key(run)]) for run in ours if key(run) in theirs]


def _changes(
    a: Sequence[Result],
    b: Sequence[Result],
    of: Callable[[Result], Mapping[str, Any]],
    left_out: tuple[str, ...],
) -> list[Change]:
    changes = []
    for key in dict.fromkeys(key for run in [*a, *b] for key in of(run)):
        values = [{str(of(run).get(key, "absent")) for run in runs if of(run)} for runs in (a, b)]
        if not key.startswith(left_out) and all(len(distinct) == 1 for distinct in values) and values[0] != values[1]:
            changes.append(Change(key, values[0].pop(), values[1].pop()))
    return sorted(changes, key=lambda change: change.key)
