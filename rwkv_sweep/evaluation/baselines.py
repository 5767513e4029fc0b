"""The baselines every run is held against: word vectors and plain word overlap, run once per sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rwkv_sweep.config.schema import DatasetConfig, MeasureConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.errors import UndefinedError, ends_the_program
from rwkv_sweep.evaluation.metric_names import quality_metrics
from rwkv_sweep.evaluation.metrics import cosine
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.evaluation.word_baselines.word_overlap import word_overlap
from rwkv_sweep.evaluation.word_baselines.word_vectors import load_word_vectors
from rwkv_sweep.hardware.environment import environment_tags
from rwkv_sweep.profiling.latency import measure_latency
from rwkv_sweep.records.failures import failed, without_non_finite
from rwkv_sweep.records.results import FINISHED, RESULT_FILE, UNDEFINED, Result, read_scores, write_latency, write_pairs
from rwkv_sweep.utils.console import log_line_once

ScorePairs = Callable[[Sequence[str], Sequence[str]], np.ndarray]

_SOURCE = ("source", "path", "id", "subset", "revision")
_ALL_ZERO = {
    "word_overlap": "no two sentences of a pair share a word",
    "word_vectors": "no pair has words with a vector in both sentences",
}
"""What it means that a baseline scores every pair 0."""


@dataclass(frozen=True)
class Baseline:
    """Scores pairs of sentences.

    Attributes:
        name: `word_vectors` or `word_overlap`.
        score_pairs: first and second sentences of the pairs to one score each.
        tags: with what it scores.
    """

    name: str
    score_pairs: ScorePairs
    tags: dict[str, str]


def baseline_folder(root: Path, name: str, data: str) -> Path:
    """Where a baseline's record lies in a sweep's (or a single run's) folder. data: see `data_key`."""
    return root / "baselines" / f"{name}-{data}"


def load_baselines(names: Sequence[str], word_vectors: str | None, word_split: str) -> list[Baseline]:
    """The baselines of these names.

    Args:
        word_vectors: `word_vectors.path`.
        word_split: how text is cut into words.

    Raises:
        UserError: the word vectors' file is missing or malformed.
    """
    baselines = []
    if "word_vectors" in names:
        vectors = load_word_vectors(word_vectors, word_split)

        def by_vectors(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
            return cosine(vectors.encode(first), vectors.encode(second))

        tags = {"vectors": vectors.name, "model_fingerprint": vectors.fingerprint}
        if vectors.note:
            log_line_once(f"{word_vectors}: {vectors.note}")
            tags["note.word_vectors"] = vectors.note
        baselines.append(Baseline("word_vectors", by_vectors, tags))
    if "word_overlap" in names:

        def by_overlap(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
            return word_overlap(first, second, word_split)

        baselines.append(Baseline("word_overlap", by_overlap, {"word_split": word_split}))
    return baselines


def run_baseline(
    baseline: Baseline,
    splits: Sequence[PairSplit],
    dataset: DatasetConfig,
    measure: MeasureConfig,
    resampling: Resampling,
    folder: Path,
) -> Result:
    """Score and time one baseline, write its record, and return it.

    Its status is UNDEFINED where a split has no correlation with its scores (no two sentences share a word, no word has
    a vector), and FAILED where anything else goes wrong; both with a reason, and the sweep goes on.
    """
    planned = Result(baseline.name, "baseline", FINISHED, _params(baseline.name, dataset), started=time.time())
    try:
        result = without_non_finite(_measured(planned, baseline, splits, measure, resampling, folder))
    except BaseException as error:
        if ends_the_program(error):
            raise
        result = failed(planned, error)
    result.save(folder)
    return result


def _measured(
    planned: Result,
    baseline: Baseline,
    splits: Sequence[PairSplit],
    measure: MeasureConfig,
    resampling: Resampling,
    folder: Path,
) -> Result:
    score_pairs, tags = baseline.score_pairs, baseline.tags
    scores = [score_pairs(split.sentences1, split.sentences2) for split in splits]
    metrics, reasons = _quality(planned.name, splits, scores, resampling)
    first = splits[0]
    pairs = first.first_pairs(max(measure.latency_pairs, measure.warmup_pairs))
    if measure.latency_pairs:
        latency = measure_latency(
            lambda a, b: float(score_pairs([a], [b])[0]),
            pairs[: measure.latency_pairs],
            pairs[: measure.warmup_pairs],
            torch.device("cpu"),
        )
        metrics |= latency.metrics()
        write_latency(folder, latency.samples_ms)
    write_pairs(folder, pair_rows(splits, scores))
    tags = {**environment_tags(torch.device("cpu")), **tags, "data_fingerprint": first.fingerprint}
    error = {"kind": "Undefined", "message": "; ".join(reasons)} if reasons else None
    status = UNDEFINED if reasons else FINISHED
    return replace(planned, status=status, metrics=metrics, tags=tags, error=error, ended=time.time())


def _params(name: str, dataset: DatasetConfig) -> dict[str, Any]:
    params: dict[str, Any] = {
        "model": name,
        "dataset": dataset.name,
        "dataset.splits": ",".join(dataset.splits),
    }
    return params | {f"dataset.{key}": getattr(dataset, key) for key in _SOURCE}


def _quality(
    name: str, splits: Sequence[PairSplit], scores: Sequence[np.ndarray], resampling: Resampling
) -> tuple[dict[str, float], list[str]]:
    """Metrics of every split that has them, as `quality_metrics`, and of each other split why it has none."""
    metrics: dict[str, float] = {}
    reasons = []
    for split, values in zip(splits, scores, strict=True):
        try:
            measured = quality_metrics([split], [values], resampling.bootstrap, resampling.seed)
        except UndefinedError as error:
            why = f" ({_ALL_ZERO[name]})" if not values.any() else ""
            reasons.append(f"split {split.name}: {error}{why}")
            continue
        # `quality/NAME` is the first split's alone, `quality/SPLIT/NAME` each one's.
        metrics |= {key: value for key, value in measured.items() if split is splits[0] or key.count("/") == 2}
    return metrics, reasons


def baseline_scores(names: Sequence[str], data: str, split: PairSplit, root: Path) -> dict[str, np.ndarray]:
    """Scores of a split's pairs by each of these baselines that has a Spearman in the sweep's folder, by its name.

    A baseline that is undefined on the first split, or failed, has a record of its own that says so.
    """
    folders = {name: baseline_folder(root, name, data) for name in names}
    return {
        name: np.asarray(read_scores(folder, split.name))
        for name, folder in folders.items()
        if (folder / RESULT_FILE).exists() and "quality/spearman" in Result.load(folder).metrics
    }


def pair_rows(splits: Sequence[PairSplit], scores: Sequence[np.ndarray]) -> Iterator[tuple[str, int, float, float]]:
    """Rows of `pairs.csv`: split, row, label and score of every pair."""
    for split, split_scores in zip(splits, scores, strict=True):
        for row, (label, score) in enumerate(zip(split.labels, split_scores, strict=True)):
            yield split.name, row, float(label), float(score)
