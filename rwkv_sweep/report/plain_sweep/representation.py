"""Whether a metric that needs no labels orders the layers of a sweep as Spearman does.

Shapes: L layers, P pairs, R resamples of the pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.ranking import Ranking, recorded_scores
from rwkv_sweep.report.common.run_groups import groups, metric
from rwkv_sweep.report.common.splits import spearman_key
from rwkv_sweep.report.common.statements import Records
from rwkv_sweep.report.common.text import counted, first_few, listed
from rwkv_sweep.stats.bootstrap import bootstrap_spearman, percentile_bounds
from rwkv_sweep.stats.intervals import Interval

HIGHEST: dict[str, bool] = {
    **{name: True for name in ("entropy", "effective_rank", "prompt_entropy", "intrinsic_dimension")},
    **{name: True for name in ("infonce", "dime", "lidar")},
    **{name: False for name in ("anisotropy", "uniformity", "curvature")},
}
"""Metrics that read no label, and whether the highest value (or the lowest) chooses the layer: set beforehand, from
what their papers call better."""
LEAST_LAYERS = 5
RESAMPLES, SEED = 1000, 0
SHOWN = 3


@dataclass(frozen=True)
class Agreement:
    """One metric over the layers.

    Attributes:
        name: of the metric, without `representation/`.
        rho: its rank correlation with Spearman, 95 % interval over resampled pairs.
        choice: label of the layer that it chooses.
        is_worse: whether that layer is shown to be worse than another.
    """

    name: str
    rho: Interval
    choice: str
    is_worse: bool


@dataclass(frozen=True)
class WithoutLabels:
    """Does any of the metrics choose the layer without labels?

    Attributes:
        group: what sets these runs apart; empty where the sweep has one group.
        layers: how many have Spearman and metric.
        agreements: the metrics, the largest absolute correlation first.
    """

    group: str
    layers: int
    agreements: list[Agreement]

    @property
    def text(self) -> str:
        where = f" ({self.group})" if self.group else ""
        largest = [
            f"{one.name} {one.rho.value:+.2f} ({one.rho.lo:+.2f} to {one.rho.hi:+.2f})"
            for one in self.agreements[:SHOWN]
        ]
        unclear = [one.name for one in self.agreements if one.rho.lo <= 0 <= one.rho.hi]
        text = f"Without labels, over {self.layers} layers{where}: the largest rank correlations with Spearman are "
        text += f"{listed(largest)}, with 95 % intervals over resampled pairs"
        text += (
            f"; for {len(unclear)} of {counted(len(self.agreements), 'metric')} the interval holds 0."
            if unclear
            else "."
        )
        good = [f"{one.name} ({one.choice})" for one in self.agreements if not one.is_worse]
        if not good:
            return text + " None of them chooses a layer that is not shown to be worse than another."
        return text + f" A layer that is not shown to be worse than another is chosen by {first_few(good)}."


def without_labels(ranking: Ranking, records: Records, labels: Mapping[str, str]) -> list[WithoutLabels]:
    """One statement for each group of runs of single layers of which at least five have Spearman and metrics."""
    statements = []
    for group in groups(ranking.runs):
        runs = [run for run in group.singles if any(_value(run, name) is not None for name in HIGHEST)]
        if len(runs) < LEAST_LAYERS:
            continue
        spearman_L = np.array([metric(run, spearman_key(ranking.split)) for run in runs], dtype=np.float64)
        resampled_LR = _resampled(runs, records, ranking.split)
        if resampled_LR is None:
            continue
        kept = {id(run) for run in ranking.within_noise}
        agreements = []
        for name in HIGHEST:
            agreement = _agreement(name, runs, spearman_L, resampled_LR, labels, kept)
            agreements += [agreement] if agreement is not None else []
        agreements.sort(key=lambda one: -abs(one.rho.value))
        if agreements:
            statements.append(WithoutLabels(group.name, len(runs), agreements))
    return statements


def _agreement(
    name: str,
    runs: Sequence[Result],
    spearman_L: np.ndarray,
    resampled_LR: np.ndarray,
    labels: Mapping[str, str],
    kept: set[int],
) -> Agreement | None:
    """None where a layer lacks the metric, or all have the same value."""
    values = [_value(run, name) for run in runs]
    if any(value is None for value in values):
        return None
    values_L = np.array(values, dtype=np.float64)
    rho = float(rank_correlations(values_L, spearman_L[:, None])[0])
    try:
        bounds = percentile_bounds(rank_correlations(values_L, resampled_LR))
    except UndefinedError:
        return None
    chosen = runs[int(values_L.argmax() if HIGHEST[name] else values_L.argmin())]
    return Agreement(name, Interval(rho, *bounds), labels[chosen.name], id(chosen) not in kept)


def rank_correlations(values_L: np.ndarray, others_LR: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation over the layers with each column, [R]; NaN where all of either are equal."""
    from scipy.stats import rankdata

    ranks_L, ranks_LR = rankdata(values_L), rankdata(others_LR, axis=0)
    ranks_L, ranks_LR = ranks_L - ranks_L.mean(), ranks_LR - ranks_LR.mean(axis=0)
    norm_R = np.sqrt((ranks_L @ ranks_L) * (ranks_LR**2).sum(axis=0))
    return np.divide(ranks_L @ ranks_LR, norm_R, out=np.full(norm_R.shape, np.nan), where=norm_R > 0)


def _resampled(runs: Sequence[Result], records: Records, split: str) -> np.ndarray | None:
    """Spearman of each run on each resample of the pairs, [L, R]; None where the scores of a run are missing."""
    scored = [recorded_scores(records.folder(run), split) for run in runs]
    whole = [one for one in scored if one is not None]
    if len(whole) < len(runs) or any(not np.array_equal(labels_P, whole[0][0]) for labels_P, _ in whole):
        return None
    return bootstrap_spearman([scores_P for _, scores_P in whole], whole[0][0], RESAMPLES, SEED)


def _value(run: Result, name: str) -> float | None:
    return metric(run, f"representation/{name}")
