"""The learned aggregation of a run: its weights fitted to the vectors of one split, before another is scored.

Shapes: L layers, S sentences, P pairs, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rwkv_sweep.config.fitting_splits import LEARNED, aggregation_split
from rwkv_sweep.config.layer_spec import layer_name
from rwkv_sweep.config.schema import AggregationConfig, DatasetConfig
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.embedding.aggregation import unit
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.evaluation.layer_choice.pair_products import PairProducts, pair_products
from rwkv_sweep.evaluation.layer_choice.weights import LearnedWeights, learn_weights

MOST_PAIRS = 4096
"""Of more pairs so many are drawn at random: a few numbers need no more, and memory stays bounded."""


@dataclass(frozen=True)
class FittedAggregation:
    """A run's aggregation, ready for use, and what is recorded of its fit.

    Attributes:
        embedder: aggregates by the fitted weights.
        params, metrics, tags: the weights, the pairs they were fitted to, and how well they do on pairs left out; empty
            for an aggregation that is not fitted.
    """

    embedder: Embedder
    params: dict[str, object]
    metrics: dict[str, float]
    tags: dict[str, str]


def fit_aggregation(
    embedder: Embedder, source: VectorSource, dataset: DatasetConfig, splits: Sequence[PairSplit], seed: int
) -> FittedAggregation:
    """Fit the weights of `aggregation=learned`; any other aggregation is returned as it is.

    Args:
        embedder: of the run; `source` has its vectors.
        splits: all that are scored.
        seed: of the folds, and of the pairs and comparisons drawn where there are many.

    Raises:
        UserError: the split to fit to is scored, cannot be read, or has too few pairs.
        UndefinedError: its pairs have no Spearman.
        NonFiniteError: NaN or infinity in vectors.
    """
    spec = aggregation_split(embedder.aggregation, dataset)
    if spec is None:
        return FittedAggregation(embedder, {}, {}, {})
    pairs = fitting_pairs(dataset, "aggregation.fit", spec, splits)
    v_LSD = source.of(pairs.sentences, embedder.pooling, embedder.layers)
    learned = learned_weights(embedder.aggregation, v_LSD.numpy(), pairs.labels, seed)
    blocks = embedder.encoder.loaded.model.config.num_hidden_layers
    names = [layer_name(layer, blocks) for layer in embedder.layers]
    metrics = {
        "aggregation/fit_pairs": float(min(len(pairs.labels), MOST_PAIRS)),
        "aggregation/fit_score": learned.cross_validated,
        "aggregation/regularization": learned.strength,
    }
    weights = learned.weights_L.tolist()
    for name, weight in zip(names, weights, strict=True):
        metrics[f"aggregation/weight/{name.zfill(2)}"] = weight
    shown = "[" + ",".join(f"{weight:.6g}" for weight in weights) + "]"
    fitted = replace(embedder, aggregation=weighted(embedder.aggregation, learned))
    return FittedAggregation(fitted, {"aggregation.learned": shown}, metrics, {"aggregation_fit": pairs.name})


def equal_weights(embedder: Embedder) -> FittedAggregation:
    """As `fit_aggregation` where there is nothing to fit, as the model's weights are random: the time is the same."""
    if embedder.aggregation.name != LEARNED:
        return FittedAggregation(embedder, {}, {}, {})
    layers = len(embedder.layers)
    equal = LearnedWeights(np.full(layers, 1 / layers), 0.0, 0.0)
    note = {"note.aggregation": "equal weights: the model's are random, so that there is nothing to fit"}
    return FittedAggregation(replace(embedder, aggregation=weighted(embedder.aggregation, equal)), {}, {}, note)


def learned_weights(
    aggregation: AggregationConfig, v_LSD: np.ndarray, labels_P: np.ndarray, seed: int
) -> LearnedWeights:
    """Fit weights to the layers' vectors of pairs, the first half of the S = 2P sentences against the second.

    Raises:
        UndefinedError: as `learn_weights`.
    """
    import torch

    if aggregation.normalize == "unit":
        v_LSD = unit(torch.from_numpy(v_LSD)).numpy()
    return weights_of_products(*drawn_products(v_LSD, np.arange(v_LSD.shape[1]), labels_P, seed), seed)


def drawn_products(
    v_LSD: np.ndarray, sentences: np.ndarray, labels_P: np.ndarray, seed: int
) -> tuple[PairProducts, np.ndarray]:
    """Inner products of the layers of at most `MOST_PAIRS` pairs, and the labels of these pairs.

    Args:
        v_LSD: as they are summed.
        sentences: numbers of the pairs' first sentences, and then of their second ones.
    """
    pairs = len(labels_P)
    if pairs > MOST_PAIRS:
        drawn = np.sort(np.random.default_rng(seed).permutation(pairs)[:MOST_PAIRS])
        sentences, labels_P = sentences[np.concatenate([drawn, drawn + pairs])], labels_P[drawn]
    return pair_products(v_LSD[:, sentences]), labels_P


def weights_of_products(products: PairProducts, labels_P: np.ndarray, seed: int) -> LearnedWeights:
    """As `learn_weights`, in one thread: threads that wait for each other at matrices of a dozen rows double the time.

    Raises:
        UndefinedError: as `learn_weights`.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return learn_weights(products, labels_P, seed)


def weighted(aggregation: AggregationConfig, learned: LearnedWeights) -> AggregationConfig:
    """The aggregation with its weights in place: from here on it is a weighted mean like any other."""
    return replace(aggregation, name="weighted", weights=learned.weights_L.tolist())
