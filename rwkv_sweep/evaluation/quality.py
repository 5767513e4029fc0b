"""The quality pass of a run: sentence vectors, scores, metrics, and the differences to what it is held against.

Shapes: L layers, S sentences, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rwkv_sweep.config.schema import DatasetConfig, PostprocessConfig
from rwkv_sweep.data.corpus import TRANSDUCTIVE, fitting_corpus
from rwkv_sweep.data.splits import PairSplit, load_fit_split
from rwkv_sweep.embedding.aggregation import aggregate
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.pooling import final_pooling
from rwkv_sweep.embedding.postprocessing import Postprocess, fit, needs_fit, unfitted
from rwkv_sweep.errors import UndefinedError, UserError
from rwkv_sweep.evaluation.baselines import pair_rows
from rwkv_sweep.evaluation.metric_names import quality_metrics
from rwkv_sweep.evaluation.metrics import cosine, paired_differences
from rwkv_sweep.evaluation.output_formats import OutputFormat, fitted_format
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.records.results import write_pairs
from rwkv_sweep.stats.bootstrap import resamples_for
from rwkv_sweep.stats.intervals import Difference
from rwkv_sweep.stats.multiple_testing import ALPHA, FINAL


@dataclass(frozen=True)
class PostprocessFit:
    """Post-processing and what it is fitted on: `config.fit`, a split of `dataset`, or the scored sentences."""

    config: PostprocessConfig
    dataset: DatasetConfig


@dataclass(frozen=True)
class OutputFit:
    """What vectors are compared as (`output` of the config), and the split whose ranges `int8` takes."""

    name: str
    fit: str | None = None


@dataclass(frozen=True)
class QualityPass:
    """What a quality pass gives.

    Attributes:
        metrics: quality, and differences to baselines and final-layer inference.
        embedder: with its post-processing fitted.
        form: that vectors are compared in.
        fitted_on: the split that was, or `transductive`; None where nothing is fitted.
        source: `store`, or `forward` where this run had to compute.
        notes: tags that say why a difference is missing, or that the store was not used as it should be.
    """

    metrics: dict[str, float]
    embedder: Embedder
    form: OutputFormat
    fitted_on: str | None
    source: str
    notes: dict[str, str]


def measure_quality(
    embedder: Embedder,
    source: VectorSource,
    splits: Sequence[PairSplit],
    fitting: PostprocessFit,
    output: OutputFit,
    baselines: Mapping[str, np.ndarray],
    resampling: Resampling,
    folder: Path,
) -> QualityPass:
    """Score every split.

    Args:
        embedder: without post-processing; the result's has it, fitted.
        source: of the embedder's vectors.
        splits: all that are scored.
        fitting: the post-processing.
        output: what the vectors are compared as.
        baselines: scores of the first split's pairs by each baseline that has a Spearman, see `baseline_scores`.
        resampling: of the first split's differences.
        folder: the run's; `pairs.csv` goes there.

    Raises:
        UserError: the split to fit on holds scored sentences alone.
        NonFiniteError: NaN or infinity in vectors or scores.
    """
    raw = [sentence_vectors(source, embedder, split.sentences) for split in splits]
    post, fitted_on = fitted_postprocess(source, embedder, fitting, splits, raw)
    embedder = replace(embedder, postprocess=post)
    finished = [post.apply(vectors_SD) if post else vectors_SD for vectors_SD in raw]
    form = _output_format(source, embedder, output, fitting.dataset, splits)
    scores = [pair_scores(form.restored(vectors_SD)) for vectors_SD in finished]
    write_pairs(folder, pair_rows(splits, scores))
    metrics = quality_metrics(splits, scores, resampling.bootstrap, resampling.seed)
    references = {f"baseline/{name}": theirs for name, theirs in baselines.items()}
    references |= _final_scores(source, embedder, splits[0])
    deltas, notes = score_differences(references, splits[0], scores[0], resampling)
    metrics |= deltas
    if form.name != "float32":
        differences = paired_differences(
            scores[0], [pair_scores(finished[0])], splits[0].labels, resampling.bootstrap, resampling.seed
        )
        metrics |= differences[0].metrics("output/spearman_delta")
    if source.failure is not None:
        notes["note.store"] = source.failure
    return QualityPass(metrics, embedder, form, fitted_on, "forward" if source.forwards else "store", notes)


def _output_format(
    source: VectorSource, embedder: Embedder, output: OutputFit, dataset: DatasetConfig, splits: Sequence[PairSplit]
) -> OutputFormat:
    """The form that vectors are compared in, with the ranges of sentences that are not scored.

    Raises:
        UserError: the split to fit on holds scored sentences alone.
    """

    def fitting_vectors() -> np.ndarray:
        assert output.fit is not None  # checked with the config
        corpus = fitting_corpus("output_fit", output.fit, dataset, splits)
        vectors_SD, post = sentence_vectors(source, embedder, corpus.texts), embedder.postprocess
        return post.apply(vectors_SD) if post else vectors_SD

    return fitted_format(output.name, fitting_vectors)


def sentence_vectors(source: VectorSource, embedder: Embedder, sentences: Sequence[str]) -> np.ndarray:
    """Aggregated vectors [S, D'], before post-processing."""
    vectors_LSD = source.of(sentences, embedder.pooling, embedder.layers)
    return aggregate(vectors_LSD, embedder.aggregation, embedder.layers).numpy()


def pair_scores(vectors_SD: np.ndarray) -> np.ndarray:
    """Cosine of each pair: the first half of the sentences against the second."""
    pairs = len(vectors_SD) // 2
    return cosine(vectors_SD[:pairs], vectors_SD[pairs:])


def fitted_postprocess(
    source: VectorSource,
    embedder: Embedder,
    fitting: PostprocessFit,
    splits: Sequence[PairSplit],
    raw: Sequence[np.ndarray],
) -> tuple[Postprocess | None, str | None]:
    """The post-processing, None where none is asked for, and what it was fitted on, in words; None for nothing.

    Args:
        splits, raw: the scored ones, and the vectors [S, D'] of each.

    Raises:
        UserError: the split to fit on holds scored sentences alone.
    """
    config = fitting.config
    if not needs_fit(config):
        return unfitted(config, embedder.encoder.loaded.task_heads), None
    if config.fit is None:
        return fit(config.name, np.concatenate(raw), config.components), TRANSDUCTIVE
    split = load_fit_split(fitting.dataset, config.fit)
    scored = np.zeros(len(split.sentences), dtype=bool)
    for scored_split in splits:
        scored |= split.sentences.is_in(scored_split.sentences)
    if scored.all():
        raise UserError(
            f"postprocess.fit={config.fit} has no sentence that is not scored too, by dataset.splits="
            f"[{','.join(fitting.dataset.splits)}]: valid is another split; null fits a run on the scored sentences, "
            "which labels it transductive; an Encoder takes any texts as its argument corpus"
        )
    fitting_SD = sentence_vectors(source, embedder, split.sentences)[~scored]
    left_out = f" without the {scored.sum()} sentences that are scored too" if scored.any() else ""
    return fit(config.name, fitting_SD, config.components), config.fit + left_out


def score_differences(
    references: Mapping[str, np.ndarray], split: PairSplit, scores: np.ndarray, resampling: Resampling
) -> tuple[dict[str, float], dict[str, str]]:
    """Spearman less that of each reference.

    Args:
        references: scores [P] of the split's pairs, by what begins the metric's name, such as `baseline/word_overlap`.
        split: its labels.
        scores: [P], the run's own.
        resampling: as for its other figures.

    Returns:
        Metrics `<reference>/delta`, and `comparisons/resamples`: how many the smallest of these p-values come from.
        Tags that say why a difference is missing.
    """
    if not references:
        return {}, {}
    p_resamples = resamples_for(resampling.jobs * len(references), len(split.labels), resampling.bootstrap, ALPHA)

    def less(others: Sequence[np.ndarray]) -> list[Difference]:
        return paired_differences(scores, others, split.labels, resampling.bootstrap, resampling.seed, p_resamples)

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
    pooling = final_pooling(embedder.pooling)
    return {FINAL: pair_scores(source.of(split.sentences, pooling, [final])[0].numpy())}
