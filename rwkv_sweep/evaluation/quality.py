"""The quality pass of a run: sentence vectors, scores, metrics, and the differences to what it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.data.corpus import TRANSDUCTIVE
from rwkv_sweep.data.splits import PairSplit, load_fit_split
from rwkv_sweep.embedding.aggregation import aggregate
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.pooling import STATE
from rwkv_sweep.embedding.postprocessing import Postprocess, fit
from rwkv_sweep.errors import UndefinedError, UserError
from rwkv_sweep.evaluation.baselines import baseline_scores, pair_rows
from rwkv_sweep.evaluation.metric_names import quality_metrics
from rwkv_sweep.evaluation.metrics import cosine, paired_differences
from rwkv_sweep.records.results import write_pairs
from rwkv_sweep.stats.bootstrap import resamples_for
from rwkv_sweep.stats.intervals import Difference
from rwkv_sweep.stats.multiple_testing import ALPHA, FINAL
from rwkv_sweep.utils.stage_timer import Stopwatch


@dataclass(frozen=True)
class QualityPass:
    """metrics: quality and differences. embedder: with its post-processing fitted. fitted_on: the split that was, or
    `transductive`; None without post-processing. source: `store`, or `forward` where this run had to compute.
    notes: tags that say why a difference is missing, or that the store was not used as it should be."""

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
    jobs: int = 1,
) -> QualityPass:
    """Score every split.

    Args:
        embedder: without post-processing; the result's has it, fitted.
        folder: the run's; `pairs.csv` goes there.
        root: the sweep's, where the baselines' scores lie.
        poolings: those the sweep will want, taken along in one pass.
        clock: told of the time spent in forwards.
        jobs: of the sweep; its comparisons are corrected together, so that many need smaller p-values.

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
    final = _final_scores(source, embedder, splits[0])
    deltas, notes = baseline_differences(run, splits[0], scores[0], root, final, jobs)
    metrics |= deltas
    if store is not None and store.failure is not None:
        notes["note.store"] = store.failure
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
        scored |= split.sentences.is_in(each.sentences)
    if scored.all():
        raise UserError(
            f"postprocess.fit={config.fit} has no sentence that is not scored too, by dataset.splits="
            f"[{','.join(run.dataset.splits)}]: valid is another split; null fits a run on the scored sentences, which "
            "labels it transductive; an Encoder takes any texts as its argument corpus"
        )
    fitting_SD = sentence_vectors(source, embedder, split.sentences)[~scored]
    left_out = f" without the {scored.sum()} sentences that are scored too" if scored.any() else ""
    return fit(config.name, fitting_SD, config.components), config.fit + left_out


def baseline_differences(
    run: RunConfig,
    split: PairSplit,
    scores: np.ndarray,
    root: Path,
    more: Mapping[str, np.ndarray] | None = None,
    jobs: int = 1,
) -> tuple[dict[str, float], dict[str, str]]:
    """Spearman less that of each baseline, and of each of the references `more` (scores [P] by name).

    Returns:
        Metrics `<reference>/delta`, and `comparisons/resamples`: how many the smallest of these p-values come from.
        Tags that say why a difference is missing.
    """
    references = {f"baseline/{name}": theirs for name, theirs in baseline_scores(run, split, root).items()}
    references |= more or {}
    if not references:
        return {}, {}
    p_resamples = resamples_for(jobs * len(references), len(split.labels), run.bootstrap, ALPHA)

    def less(others: Sequence[np.ndarray]) -> list[Difference]:
        return paired_differences(scores, others, split.labels, run.bootstrap, run.seed, p_resamples)

    notes: dict[str, str] = {}
    try:
        deltas = dict(zip(references, less(list(references.values())), strict=True))
    except UndefinedError:  # of one of them: the run's own scores have passed
        deltas = {}
        for name, theirs in references.items():
            try:
                (deltas[name],) = less([theirs])
            except UndefinedError as error:
                notes[f"note.{name}/delta"] = f"undefined: {error}"
    metrics = {"comparisons/resamples": float(p_resamples)} if deltas else {}
    for name, delta in deltas.items():
        metrics |= delta.metrics(f"{name}/delta")
    return metrics, notes


def _final_scores(source: VectorSource, embedder: Embedder, split: PairSplit) -> dict[str, np.ndarray]:
    """Scores by final-layer inference with the same model, precision, prompt and pooling; none if this run is that."""
    final = embedder.encoder.loaded.model.config.num_hidden_layers
    if list(embedder.layers) == [final] and embedder.postprocess is None:
        return {}
    pooling = "mean" if embedder.pooling == STATE else embedder.pooling
    return {FINAL: pair_scores(source.of(split.sentences, pooling, [final])[0].numpy())}
