"""Which runs of a sweep the scored pairs can distinguish by their Spearman.

The difference of two runs is compared with its standard error, both runs on the same bootstrap resamples of the pairs,
so that what makes a pair hard cancels. Whoever asks for the best of K runs looks at K - 1 differences: a run counts as
worse than another only where the difference exceeds noise at 0.05 / (K - 1), one-sided. What no other run is shown to
beat is a confidence set for the best: the truly best run is in it with 95 % (Hsu, Constrained simultaneous confidence
intervals for multiple comparisons with the best, Annals of Statistics 12, 1984, by Bonferroni's bound).

Shapes: K runs, P pairs, R resamples.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist

import numpy as np

from rwkv_sweep.records.results import FINISHED, PAIRS_FILE, Result
from rwkv_sweep.report.common.run_groups import metric
from rwkv_sweep.report.common.splits import run_splits, spearman_key, split_names
from rwkv_sweep.report.common.statements import Records
from rwkv_sweep.stats.bootstrap import bootstrap_spearman
from rwkv_sweep.stats.multiple_testing import ALPHA

MOST_PAIRS = 20_000
"""Of more pairs so many are resampled, and the standard error is scaled to all of them."""
MOST_ELEMENTS = 40_000_000
MOST_RESAMPLES, LEAST_RESAMPLES = 2000, 200


@dataclass(frozen=True)
class Ranking:
    """Runs with a Spearman on one split, the highest first.

    Attributes:
        split: its name.
        runs: K runs. values: of each its Spearman.
        error_KK: standard error of each two runs' difference; NaN where it is not known.
        pairs: scored.
    """

    split: str
    runs: list[Result]
    values: list[float]
    error_KK: np.ndarray
    pairs: int

    @cached_property
    def better_KK(self) -> np.ndarray:
        """Whether the run of the row is shown to be better than that of the column, bool [K, K]."""
        return shown_better(np.array(self.values), self.error_KK)

    @property
    def compared(self) -> bool:
        """Whether any two runs could be compared with each other at all."""
        return len(self.runs) < 2 or bool(np.isfinite(self.error_KK[~np.eye(len(self.runs), dtype=bool)]).any())

    @property
    def within_noise(self) -> list[Result]:
        """The runs that no other is shown to beat, the highest first."""
        beaten_K: np.ndarray = np.any(self.better_KK, axis=0)
        return [run for run, beaten in zip(self.runs, beaten_K.tolist(), strict=True) if not beaten]

    def among(self, runs: Sequence[Result]) -> Ranking:
        """The same of some of the runs alone."""
        chosen = [place for place, run in enumerate(self.runs) if any(run is other for other in runs)]
        kept, values = [self.runs[place] for place in chosen], [self.values[place] for place in chosen]
        return Ranking(self.split, kept, values, self.error_KK[np.ix_(chosen, chosen)], self.pairs)


def rankings(records: Records) -> list[Ranking]:
    """One for each set of pairs that finished model runs scored, on the first split; none where nothing was scored."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for run in records.results:
        if run.kind == "model" and run.status == FINISHED:
            groups.setdefault(data_of(run), []).append(run)
    with_splits = [(runs, split_names(runs)) for runs in groups.values()]
    return [rank(runs, records, splits[0]) for runs, splits in with_splits if splits]


def data_of(run: Result) -> tuple[str, str, str]:
    """Data set, splits and fingerprint: runs that agree in these scored the same pairs."""
    return str(run.params.get("dataset", "")), ",".join(run_splits(run)), run.tags.get("data_fingerprint", "")


def rank(runs: Sequence[Result], records: Records, split: str) -> Ranking:
    """Rank finished runs that scored the same pairs.

    Args:
        runs: of one set of pairs.
        records: where `pairs.csv` of each run is; a run without a readable one is not shown to differ from any other.
        split: the split's name.
    """
    key = spearman_key(split)
    scored = [(value, run) for run in runs if (value := metric(run, key)) is not None]
    scored.sort(key=lambda scored_run: -scored_run[0])
    order = [run for _, run in scored]
    count = max((int(metric(run, key.replace("/spearman", "/pairs")) or 0) for run in order), default=0)
    error_KK = standard_errors([recorded_scores(records.folder(run), split) for run in order])
    return Ranking(split, order, [value for value, _ in scored], error_KK, count)


def shown_better(values_K: np.ndarray, error_KK: np.ndarray) -> np.ndarray:
    """Whether each run (row) exceeds each other (column) by more than noise, bool [K, K]; never where the error is
    NaN."""
    gap_KK = values_K[:, None] - values_K[None, :]
    limit = -NormalDist().inv_cdf(ALPHA / max(1, len(values_K) - 1))
    with np.errstate(invalid="ignore"):
        return (gap_KK > 1e-12) & (gap_KK > limit * error_KK)


def standard_errors(scored: Sequence[tuple[np.ndarray, np.ndarray] | None], seed: int = 0) -> np.ndarray:
    """Standard error of the difference of Spearman of each two of K runs, [K, K]; NaN where it is not known.

    Args:
        scored: of each run labels [P] and scores [P]; None where there are none. A run with other labels than the
            first one that has any is not compared.
    """
    count = len(scored)
    error_KK = np.full((count, count), np.nan)
    first = next((labels_P for labels_P, _ in filter(None, scored)), None)
    if first is None or len(first) < 3:
        return error_KK
    used = [i for i, run_scores in enumerate(scored) if run_scores is not None and np.array_equal(run_scores[0], first)]
    chosen = np.arange(len(first))
    if len(first) > MOST_PAIRS:
        chosen = np.random.default_rng(seed).permutation(len(first))[:MOST_PAIRS]
    resamples = int(np.clip(MOST_ELEMENTS // (len(used) * len(chosen)), LEAST_RESAMPLES, MOST_RESAMPLES))
    scores = [run_scores[1][chosen] for i in used if (run_scores := scored[i]) is not None]
    resampled_KR = bootstrap_spearman(scores, first[chosen], resamples, seed)
    resampled_KR = resampled_KR[:, ~np.isnan(resampled_KR).any(axis=0)]
    if resampled_KR.shape[1] < LEAST_RESAMPLES // 2:
        return error_KK
    covariance_KK = np.atleast_2d(np.cov(resampled_KR))
    variance_K = np.diag(covariance_KK)
    square_KK = np.maximum(0.0, variance_K[:, None] + variance_K[None, :] - 2 * covariance_KK)
    error_KK[np.ix_(used, used)] = np.sqrt(square_KK * len(chosen) / len(first))
    return error_KK


def recorded_scores(folder: Path | None, split: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels [P] and scores [P] of a split, as a run wrote them; None where there is no readable file."""
    if folder is None:
        return None
    try:
        with (folder / PAIRS_FILE).open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            next(rows, None)
            pairs = [(float(label), float(score)) for name, _, label, score in rows if name == split]
    except (OSError, ValueError, csv.Error):
        return None
    return (np.array([label for label, _ in pairs]), np.array([score for _, score in pairs])) if pairs else None
