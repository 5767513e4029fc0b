"""The parity pass of a run: its vectors and scores held against those of fp32, before anything is timed.

Shapes: L layers, S sentences, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.aggregation import aggregate
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.fp32_reference import REFERENCE, ReferenceEncoder, ResidentReference
from rwkv_sweep.evaluation.parity import Embedded, parity_metrics
from rwkv_sweep.evaluation.quality import PostprocessFit, fitted_postprocess, pair_scores, sentence_vectors
from rwkv_sweep.evaluation.resampling import Resampling

MOST_PAIRS = 4096
"""Pairs of the first split that are compared, from its beginning: enough for a percentile, and bounded in memory."""
RANDOM_PAIRS = 8
"""Pairs where the weights are random: they tell whether the arithmetic stays finite and close, and no more."""


def measure_parity(
    embedder: Embedder,
    source: VectorSource,
    model: ModelConfig,
    fitting: PostprocessFit,
    splits: Sequence[PairSplit],
    resampling: Resampling,
    reference: ResidentReference | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Compare the first split's vectors and scores with fp32; both come from the store where it has them.

    Args:
        embedder: of another precision than fp32; its post-processing is fitted anew for each of the two.
        source: of the embedder's vectors.
        model: the one it has loaded.
        fitting: the post-processing.
        splits: all of the run.
        resampling: of the difference in Spearman.
        reference: where the fp32 weights may be already.

    Returns:
        Metrics `parity/*`, and a tag that says why there are none: the fp32 weights do not fit into memory.

    Raises:
        NonFiniteError: NaN or infinity in vectors or scores, of either precision.
    """
    loaded, encoder = embedder.encoder.loaded, embedder.encoder
    reference = reference or ResidentReference()
    reason = reference.why_not(loaded.model, encoder.device)
    if reason is not None:
        return {}, {"note.parity": f"absent: {reason}"}
    in_fp32 = ReferenceEncoder.beside(encoder, model, reference)
    compared = (
        (embedder, source),
        (replace(embedder, encoder=in_fp32), source.with_encoder(in_fp32, REFERENCE)),
    )
    pairs = min(len(splits[0]), MOST_PAIRS if loaded.trained else RANDOM_PAIRS)
    ours, theirs = (_embedded(own, vectors, fitting, splits, pairs) for own, vectors in compared)
    labels = splits[0].labels[:pairs] if loaded.trained else None
    blocks = loaded.model.config.num_hidden_layers
    metrics = parity_metrics(ours, theirs, labels, embedder.layers, blocks, resampling.bootstrap, resampling.seed)
    return metrics, {}


def _embedded(
    embedder: Embedder, source: VectorSource, fitting: PostprocessFit, splits: Sequence[PairSplit], pairs: int
) -> Embedded:
    """What one precision gives for the first `pairs` pairs of the first split."""
    sentences: Texts = splits[0].sentences1[:pairs] + splits[0].sentences2[:pairs]
    layers_LSD = source.of(sentences, embedder.pooling, embedder.layers)
    sentences_SD = aggregate(layers_LSD, embedder.aggregation, embedder.layers).numpy()
    scored_SD = sentences_SD
    if embedder.postprocess is not None:
        raw = [sentence_vectors(source, embedder, split.sentences) for split in splits]
        post, _ = fitted_postprocess(source, embedder, fitting, splits, raw)
        assert post is not None
        scored_SD = post.apply(sentences_SD)
    return Embedded(layers_LSD.numpy(), sentences_SD, pair_scores(scored_SD))
