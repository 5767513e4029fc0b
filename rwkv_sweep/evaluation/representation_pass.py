"""The representation pass of a run: what its vectors, and the tokens behind them, look like without labels.

Shapes: L layers, S sentences, P pairs, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rwkv_sweep.config.layer_spec import layer_name
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.embedding.aggregation import aggregate
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.pooling import token_statistics_of, vector_size
from rwkv_sweep.embedding.token_statistics import ANGLE_SUM, ANGLES, ENTROPY
from rwkv_sweep.errors import NoTokensError, UndefinedError
from rwkv_sweep.evaluation.representation import geometry, views
from rwkv_sweep.evaluation.representation.cka import linear_cka
from rwkv_sweep.evaluation.representation.entropy import effective_rank, matrix_entropy
from rwkv_sweep.evaluation.representation.word_dropout import two_views
from rwkv_sweep.records.results import write_cka

MOST_SENTENCES = 8192
"""Of more sentences so many are drawn at random for what compares vectors with each other."""
MOST_VIEWS = 1000
"""Of more sentences so many are drawn at random and seen twice, as in arXiv 2502.02013."""
MOST_CKA = 2048
MOST_CKA_BYTES = 2**30
"""Sentences that CKA is of at most, and bytes of their vectors of all layers in fp32."""

Figures = tuple[dict[str, float], dict[str, str]]
"""Metrics, and tags that say why one is missing."""


def read_token_statistics(source: VectorSource, embedder: Embedder, split: PairSplit) -> np.ndarray | None:
    """[S, 3] of the run's layer, see `rwkv_sweep.embedding.token_statistics`; None for a run of several layers.

    Asked for before the vectors, it fills the store with those from the same forward pass.
    """
    if len(embedder.layers) != 1:
        return None
    return source.of(split.sentences, token_statistics_of(embedder.pooling), embedder.layers)[0].numpy()


def measure_representation(
    embedder: Embedder,
    source: VectorSource,
    split: PairSplit,
    tokens_S3: np.ndarray | None,
    seed: int,
    folder: Path,
) -> Figures:
    """Metrics `representation/*` over all sentences of a split as they stand, repeats included.

    Args:
        embedder: with its post-processing fitted, so that the vectors are those that are scored.
        source: of the embedder's vectors.
        split: its labels serve `alignment` alone.
        tokens_S3: as `read_token_statistics` gives them.
        seed: of what is drawn at random: sentences where there are many, words that a view lacks, DiME's permutations.
        folder: the run's; `cka.csv` goes there.

    Raises:
        NonFiniteError: NaN or infinity in vectors.
    """
    vectors_SD = scored_vectors(source, embedder, split.sentences)
    pairs = len(split)
    drawn_SD = vectors_SD[_drawn(len(vectors_SD), MOST_SENTENCES, seed)]
    metrics, notes = _figures(
        {
            "entropy": lambda: matrix_entropy(drawn_SD),
            "anisotropy": lambda: geometry.anisotropy(vectors_SD),
            "uniformity": lambda: geometry.uniformity(drawn_SD),
            "alignment": lambda: geometry.alignment(vectors_SD[:pairs], vectors_SD[pairs:], split.labels),
            "intrinsic_dimension": lambda: geometry.intrinsic_dimension(drawn_SD),
        }
    )
    if "representation/entropy" in metrics:
        metrics["representation/effective_rank"] = effective_rank(metrics["representation/entropy"])
    for more_metrics, more_notes in (
        _of_tokens(tokens_S3),
        _of_views(source, embedder, split.sentences, seed),
        _cka(source, embedder, split.sentences, seed, folder),
    ):
        metrics |= more_metrics
        notes |= more_notes
    return metrics, notes


def scored_vectors(source: VectorSource, embedder: Embedder, sentences: Sequence[str]) -> np.ndarray:
    """The run's own vectors [S, D], float64: aggregated and post-processed."""
    vectors_LSD = source.of(sentences, embedder.pooling, embedder.layers)
    vectors_SD = aggregate(vectors_LSD, embedder.aggregation, embedder.layers).numpy().astype(np.float64)
    return vectors_SD if embedder.postprocess is None else embedder.postprocess.apply(vectors_SD)


def _drawn(count: int, most: int, seed: int) -> np.ndarray:
    """Numbers of at most `most` of `count` sentences, in their order."""
    return np.arange(count) if count <= most else np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _figures(formulas: dict[str, Callable[[], float]]) -> Figures:
    """The value of each, or why it has none."""
    metrics, notes = {}, {}
    for name, formula in formulas.items():
        try:
            metrics[f"representation/{name}"] = formula()
        except UndefinedError as error:
            notes[f"note.representation/{name}"] = f"undefined: {error}"
    return metrics, notes


def _of_tokens(tokens_S3: np.ndarray | None) -> Figures:
    if tokens_S3 is None:
        return {}, {"note.representation/tokens": "prompt_entropy and curvature are of one layer; this run has several"}

    def curvature() -> float:
        bent_S3 = tokens_S3[tokens_S3[:, ANGLES] > 0].astype(np.float64)
        if not len(bent_S3):
            raise UndefinedError("no sentence has three tokens that differ")
        return float((bent_S3[:, ANGLE_SUM] / bent_S3[:, ANGLES]).mean())

    entropy = lambda: float(tokens_S3[:, ENTROPY].mean(dtype=np.float64))  # noqa: E731
    return _figures({"prompt_entropy": entropy, "curvature": curvature})


def _of_views(source: VectorSource, embedder: Embedder, sentences: Sequence[str], seed: int) -> Figures:
    chosen = [sentences[row] for row in _drawn(len(sentences), MOST_VIEWS, seed).tolist()]
    texts = two_views(chosen, seed)
    try:
        raw = [scored_vectors(source, embedder, view) for view in texts]
    except NoTokensError as error:
        return {}, {"note.representation/views": f"infonce, dime and lidar are missing: {error}"}
    first_SD, second_SD = views.normalized_views(*raw)
    return _figures(
        {
            "infonce": lambda: views.infonce(first_SD, second_SD),
            "dime": lambda: views.dime(first_SD, second_SD, seed),
            "lidar": lambda: views.lidar(first_SD, second_SD),
        }
    )


def _cka(source: VectorSource, embedder: Embedder, sentences: Sequence[str], seed: int, folder: Path) -> Figures:
    """Write `cka.csv`: linear CKA of the pooled vectors of each two layers that one forward gives."""
    config = embedder.encoder.loaded.model.config
    layers = source.all_layers(embedder.pooling)
    fits = MOST_CKA_BYTES // (4 * len(layers) * vector_size(embedder.pooling, config))
    chosen = _drawn(len(sentences), min(MOST_CKA, fits), seed).tolist()
    if len(chosen) < 2:
        return {}, {"note.representation/cka": "absent: vectors of all layers do not fit into 1 GiB"}
    texts = sentences if len(chosen) == len(sentences) else [sentences[row] for row in chosen]
    names = [layer_name(layer, config.num_hidden_layers) for layer in layers]
    vectors_LSD = source.of(texts, embedder.pooling, layers).numpy()
    write_cka(folder, names, linear_cka(list(vectors_LSD)).tolist())
    return {}, {"representation.cka": f"cka.csv, {len(chosen)} sentences"}
