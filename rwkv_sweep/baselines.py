"""The baselines every run is held against: word vectors and plain word overlap, run once per sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rwkv_sweep.config import RunConfig
from rwkv_sweep.dataset import PairSplit
from rwkv_sweep.environment import environment_tags
from rwkv_sweep.evaluate import cosine, paired_difference
from rwkv_sweep.models.word_overlap import word_overlap
from rwkv_sweep.models.word_vectors import load_word_vectors
from rwkv_sweep.params import data_key
from rwkv_sweep.profiling.latency import measure_latency
from rwkv_sweep.quality import quality_metrics
from rwkv_sweep.results import FINISHED, RESULT_FILE, Result, read_scores, write_latency, write_pairs

ScorePairs = Callable[[Sequence[str], Sequence[str]], np.ndarray]


def baseline_folder(root: Path, name: str, run: RunConfig) -> Path:
    """Where a baseline's record lies in a sweep's (or a single run's) folder."""
    return root / "baselines" / f"{name}-{data_key(run)}"


def load_baselines(run: RunConfig) -> dict[str, tuple[ScorePairs, dict[str, str]]]:
    """What scores pairs, and tags that say with what, for each baseline of a run.

    Raises:
        UserError: the word vectors' file is missing or malformed.
    """
    found: dict[str, tuple[ScorePairs, dict[str, str]]] = {}
    if "word_vectors" in run.baselines:
        vectors = load_word_vectors(run.word_vectors.path, run.dataset.word_split)

        def by_vectors(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
            return cosine(vectors.encode(first), vectors.encode(second))

        found["word_vectors"] = (by_vectors, {"vectors": vectors.name, "model_fingerprint": vectors.fingerprint})
    if "word_overlap" in run.baselines:

        def by_overlap(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
            return word_overlap(first, second, run.dataset.word_split)

        found["word_overlap"] = (by_overlap, {"word_split": run.dataset.word_split})
    return found


def run_baseline(
    name: str, scorer: tuple[ScorePairs, dict[str, str]], run: RunConfig, splits: Sequence[PairSplit], root: Path
) -> Result:
    """Score and time one baseline, write its record, and return it."""
    score_pairs, tags = scorer
    folder = baseline_folder(root, name, run)
    started = time.time()
    scores = [score_pairs(split.sentences1, split.sentences2) for split in splits]
    metrics = quality_metrics(splits, scores, run.bootstrap, run.seed)
    first = splits[0]
    pairs = first.first_pairs(max(run.measure.latency_pairs, run.measure.warmup_pairs))
    if run.measure.latency_pairs:
        latency = measure_latency(
            lambda a, b: float(score_pairs([a], [b])[0]),
            pairs[: run.measure.latency_pairs],
            pairs[: run.measure.warmup_pairs],
            torch.device("cpu"),
        )
        metrics |= latency.metrics()
        write_latency(folder, latency.samples_ms)
    write_pairs(folder, pair_rows(splits, scores))
    tags = {**environment_tags(torch.device("cpu")), **tags, "data_fingerprint": first.fingerprint}
    params: dict[str, Any] = {
        "model": name,
        "dataset": run.dataset.name,
        "dataset.splits": ",".join(run.dataset.splits),
    }
    params |= {f"dataset.{key}": getattr(run.dataset, key) for key in ("source", "path", "id", "subset", "revision")}
    result = Result(name, "baseline", FINISHED, params, metrics, tags, None, started, time.time())
    result.save(folder)
    return result


def baseline_deltas(
    run: RunConfig, splits: Sequence[PairSplit], scores: Sequence[np.ndarray], root: Path
) -> dict[str, float]:
    """Spearman of these scores less that of each baseline, with 95 % paired bootstrap intervals, first split."""
    found: dict[str, float] = {}
    split = splits[0]
    for name in run.baselines:
        folder = baseline_folder(root, name, run)
        if not (folder / RESULT_FILE).exists():
            continue
        theirs = np.asarray(read_scores(folder, split.name))
        delta = paired_difference(scores[0], theirs, split.labels, run.bootstrap, run.seed)
        found[f"baseline/{name}/delta"] = delta.value
        found[f"baseline/{name}/delta_lo"] = delta.lo
        found[f"baseline/{name}/delta_hi"] = delta.hi
        found[f"baseline/{name}/delta_p"] = delta.p
    return found


def pair_rows(splits: Sequence[PairSplit], scores: Sequence[np.ndarray]) -> Iterator[tuple[str, int, float, float]]:
    """Rows of `pairs.csv`: split, row, label and score of every pair."""
    for split, each in zip(splits, scores, strict=True):
        for row, (label, score) in enumerate(zip(split.labels, each, strict=True)):
            yield split.name, row, float(label), float(score)
