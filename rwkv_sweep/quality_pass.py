"""The quality pass of a run: sentence vectors, scores, metrics, and the differences to what it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rwkv_sweep.aggregation import aggregate
from rwkv_sweep.baselines import baseline_deltas, pair_rows
from rwkv_sweep.config import RunConfig
from rwkv_sweep.corpus import TRANSDUCTIVE
from rwkv_sweep.dataset import PairSplit, load_fit_split
from rwkv_sweep.embedder import Embedder
from rwkv_sweep.errors import UndefinedError, UserError
from rwkv_sweep.evaluate import cosine, paired_difference
from rwkv_sweep.pooling import STATE
from rwkv_sweep.postprocess import Postprocess, fit
from rwkv_sweep.quality import quality_metrics
from rwkv_sweep.results import write_pairs
from rwkv_sweep.stopwatch import Stopwatch
from rwkv_sweep.store import EmbeddingStore
from rwkv_sweep.vectors import VectorSource


@dataclass(frozen=True)
class QualityPass:
    """metrics: quality and differences. embedder: with its post-processing fitted. fitted_on: the split that was, or
    `transductive`; None without post-processing. source: `store`, or `forward` where this run had to compute.
    notes: tags that say why a difference is missing."""

    metrics: dict[str, float]
    embedder: Embedder
    fitted_on: str | None
    source: str
    notes: dict[str, str]


def measure_quality(
    embedder: Embedder,
    run: RunConfig,
    splits: Sequence[PairSplit],
    folder: Path,
    root: Path,
    poolings: Sequence[str],
    clock: Stopwatch,
) -> QualityPass:
    """Score every split.

    Args:
        embedder: without post-processing; the result's has it, fitted.
        folder: the run's; `pairs.csv` goes there.
        root: the sweep's, where the baselines' scores lie.
        poolings: those the sweep will want, taken along in one pass.
        clock: told of the time spent in forwards.

    Raises:
        UserError: the split to fit on holds scored sentences alone.
        NonFiniteError: NaN or infinity in vectors or scores.
    """
    store = EmbeddingStore(Path(run.store.path).absolute(), run.store.max_gib) if run.store.enabled else None
    source = VectorSource(embedder.encoder, run, poolings, store, clock)
    raw = [sentence_vectors(source, embedder, split.sentences) for split in splits]
    post, fitted_on = fitted_postprocess(source, embedder, run, splits, raw)
    embedder = replace(embedder, postprocess=post)
    scores = [pair_scores(post.apply(each) if post else each) for each in raw]
    write_pairs(folder, pair_rows(splits, scores))
    metrics = quality_metrics(splits, scores, run.bootstrap, run.seed)
    deltas, notes = baseline_deltas(run, splits, scores, root)
    metrics |= deltas
    try:
        metrics |= _final_delta(source, embedder, run, splits[0], scores[0])
    except UndefinedError as error:  # of the reference: the run's own scores have passed
        notes["note.final/delta"] = f"undefined: {error}"
    return QualityPass(metrics, embedder, fitted_on, "forward" if source.forwards else "store", notes)


def sentence_vectors(source: VectorSource, embedder: Embedder, sentences: Sequence[str]) -> np.ndarray:
    """Aggregated vectors [S, D'], before post-processing."""
    vectors_LSD = source.of(sentences, embedder.pooling, embedder.layers)
    return aggregate(vectors_LSD, embedder.aggregation, embedder.layers).numpy()


def pair_scores(vectors_SD: np.ndarray) -> np.ndarray:
    """Cosine of each pair: the first half of the sentences against the second."""
    pairs = len(vectors_SD) // 2
    return cosine(vectors_SD[:pairs], vectors_SD[pairs:])


def fitted_postprocess(
    source: VectorSource, embedder: Embedder, run: RunConfig, splits: Sequence[PairSplit], raw: Sequence[np.ndarray]
) -> tuple[Postprocess | None, str | None]:
    config = run.postprocess
    if config.name == "none":
        return None, None
    if config.fit is None:
        return fit(config.name, np.concatenate(raw), config.components), TRANSDUCTIVE
    split = load_fit_split(run.dataset, config.fit)
    scored = np.zeros(len(split.sentences), dtype=bool)
    for each in splits:
        scored |= split.sentences.found_in(each.sentences)
    if scored.all():
        raise UserError(
            f"postprocess.fit={config.fit} has no sentence that is not scored too: valid is another split, or null to "
            "fit on the scored sentences and label it transductive"
        )
    fitting_SD = sentence_vectors(source, embedder, split.sentences)[~scored]
    left_out = f" without the {scored.sum()} sentences that are scored too" if scored.any() else ""
    return fit(config.name, fitting_SD, config.components), config.fit + left_out


def _final_delta(
    source: VectorSource, embedder: Embedder, run: RunConfig, split: PairSplit, scores: np.ndarray
) -> dict[str, float]:
    """Spearman less that of final-layer inference with the same model, precision, prompt and pooling."""
    final = embedder.encoder.loaded.model.config.num_hidden_layers
    if list(embedder.layers) == [final] and embedder.postprocess is None:
        return {}
    pooling = "mean" if embedder.pooling == STATE else embedder.pooling
    theirs = pair_scores(source.of(split.sentences, pooling, [final])[0].numpy())
    delta = paired_difference(scores, theirs, split.labels, run.bootstrap, run.seed)
    values = {"": delta.value, "_lo": delta.lo, "_hi": delta.hi, "_p": delta.p}
    return {f"final/delta{suffix}": value for suffix, value in values.items()}
