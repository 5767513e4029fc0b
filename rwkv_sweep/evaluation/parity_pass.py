"""The parity pass of a run: its vectors and scores held against those of fp32, before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.aggregation import aggregate
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.fp32_reference import REFERENCE, ReferenceEncoder, is_reference, why_no_reference
from rwkv_sweep.evaluation.parity import Found, parity_metrics
from rwkv_sweep.evaluation.quality import fitted_postprocess, pair_scores, sentence_vectors
from rwkv_sweep.utils.stage_timer import Stopwatch

MOST_PAIRS = 4096
"""Pairs of the first split that are compared, from its beginning: enough for a percentile, and bounded in memory."""
RANDOM_PAIRS = 8
"""Pairs where the weights are random: they tell whether the arithmetic stays finite and close, and no more."""


def measure_parity(
    embedder: Embedder, run: RunConfig, splits: Sequence[PairSplit], poolings: Sequence[str], clock: Stopwatch
) -> tuple[dict[str, float], dict[str, str]]:
    """Compare the first split's vectors and scores with fp32; both come from the store where it has them.

    Args:
        embedder: its post-processing is fitted anew for each precision.
        run: with `measure.parity` on.
        splits: all of the run.
        poolings: those the sweep will want, taken along in one pass.
        clock: told of the time spent in forwards.

    Returns:
        Metrics `parity/*`, and a tag that says why there are none: the run is the reference, or the fp32 weights do
        not fit into memory.

    Raises:
        NonFiniteError: NaN or infinity in vectors or scores, of either precision.
    """
    if is_reference(run.precision):
        return {}, {"parity": "none: fp32 is what the others are held against"}
    loaded, encoder = embedder.encoder.loaded, embedder.encoder
    reason = why_no_reference(loaded.model, encoder.device)
    if reason is not None:
        return {}, {"note.parity": f"absent: {reason}"}
    kept = run.store.enabled and loaded.trained
    store = EmbeddingStore(Path(run.store.path).absolute(), run.store.max_gib) if kept else None
    precisions = (
        (embedder, run, VectorSource(encoder, run, poolings, store, clock)),
        _reference(embedder, run, poolings, store, clock),
    )
    pairs = min(len(splits[0]), MOST_PAIRS if loaded.trained else RANDOM_PAIRS)
    ours, theirs = (_found(*precision, splits, pairs) for precision in precisions)
    labels = splits[0].labels[:pairs] if loaded.trained else None
    blocks = loaded.model.config.num_hidden_layers
    return parity_metrics(ours, theirs, labels, embedder.layers, blocks, run.bootstrap, run.seed), {}


def _reference(
    embedder: Embedder, run: RunConfig, poolings: Sequence[str], store: EmbeddingStore | None, clock: Stopwatch
) -> tuple[Embedder, RunConfig, VectorSource]:
    encoder = ReferenceEncoder.beside(embedder.encoder, run.model)
    run = replace(run, precision=REFERENCE)
    return replace(embedder, encoder=encoder), run, VectorSource(encoder, run, poolings, store, clock)


def _found(embedder: Embedder, run: RunConfig, source: VectorSource, splits: Sequence[PairSplit], pairs: int) -> Found:
    """What one precision gives for the first `pairs` pairs of the first split."""
    sentences: Texts = splits[0].sentences1[:pairs] + splits[0].sentences2[:pairs]
    layers_LSD = source.of(sentences, embedder.pooling, embedder.layers)
    sentences_SD = aggregate(layers_LSD, embedder.aggregation, embedder.layers).numpy()
    scored_SD = sentences_SD
    if embedder.postprocess is not None:
        raw = [sentence_vectors(source, embedder, split.sentences) for split in splits]
        post, _ = fitted_postprocess(source, embedder, run, splits, raw)
        assert post is not None
        scored_SD = post.apply(sentences_SD)
    return Found(layers_LSD.numpy(), sentences_SD, pair_scores(scored_SD))
