"""Many configurations scored from the vectors of one pass: chosen on one split, scored on another.

Shapes: L layers, S sentences, D dimensions, N pairs to choose on, P scored pairs, K configurations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.config.schema import AggregationConfig, DatasetConfig, PostprocessConfig, SearchConfig
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit, load_fit_split
from rwkv_sweep.embedding.aggregation import aggregate, unit
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.postprocessing import VectorStatistics
from rwkv_sweep.errors import NonFiniteError, UndefinedError, UserError
from rwkv_sweep.evaluation.layer_choice.grid import Configuration, configurations
from rwkv_sweep.evaluation.layer_choice.pair_products import PairProducts, weighted_cosines
from rwkv_sweep.evaluation.layer_choice.postprocessed import PairVectors
from rwkv_sweep.evaluation.layer_choice.weights_pass import drawn_products, weighted, weights_of_products
from rwkv_sweep.utils.console import log_line


@dataclass(frozen=True)
class SearchRow:
    """A configuration that has a Spearman on both splits.

    Attributes:
        overrides: what makes a run of it.
        depth: blocks that it runs. dimension: of its vectors.
        chosen_on: Spearman on the split to choose on; of learned weights less what cross-validation shows it to be too
            high by.
        scores_P: of the scored pairs.
    """

    overrides: str
    depth: int
    dimension: int
    chosen_on: float
    scores_P: np.ndarray


@dataclass(frozen=True)
class _Chosen:
    """The split to choose on: its sentences, the scored ones, and what is counted of it.

    Attributes:
        split, scored: the split to choose on, and the first scored one.
        fitted_on: numbers of the split's sentences that are not scored; post-processings are fitted to them.
        pairs: numbers of the first sentences, and then of the second ones, of its pairs that are not scored.
        labels_N: of these pairs.
    """

    split: PairSplit
    scored: PairSplit
    fitted_on: np.ndarray
    pairs: np.ndarray
    labels_N: np.ndarray


@dataclass(frozen=True)
class _Pooled:
    """Vectors of one pooling, of all layers that a search takes.

    Attributes:
        place: of each layer in the arrays.
        own_LSD: of the split to choose on. scored_LSD: of the scored split.
        normalize: of aggregations. chosen: the split to choose on. seed: of learned weights.
    """

    place: dict[int, int]
    own_LSD: Tensor
    scored_LSD: Tensor
    normalize: str
    chosen: _Chosen
    seed: int

    @cached_property
    def _summed(self) -> tuple[Tensor, Tensor]:
        """As aggregations take them: at length 1, where that is asked for."""
        return (unit(self.own_LSD), unit(self.scored_LSD)) if self.normalize == "unit" else self._raw

    @property
    def _raw(self) -> tuple[Tensor, Tensor]:
        return self.own_LSD, self.scored_LSD

    @cached_property
    def _products(self) -> tuple[PairProducts, np.ndarray]:
        """Inner products of all layers of the pairs that weights are fitted to, and the labels of these pairs."""
        own_LSD = self._summed[0].numpy()
        return drawn_products(own_LSD, self.chosen.pairs, self.chosen.labels_N, self.seed)

    def vectors(self, configuration: Configuration) -> tuple[np.ndarray, np.ndarray, float]:
        """Vectors [S, D] of the split to choose on and of the scored one, before post-processing, and the optimism: by
        how much Spearman on the pairs that weights were fitted to exceeds the cross-validated one.

        Raises:
            UndefinedError: no weights can be fitted.
        """
        layers, aggregation = configuration.layers, configuration.aggregation
        places = [self.place[layer] for layer in layers]
        if aggregation.name == "none":
            own_SD, scored_SD = (v_LSD[places[0]].numpy() for v_LSD in self._raw)
            return own_SD, scored_SD, 0.0
        optimism = 0.0
        if aggregation.name == "learned":
            aggregation, optimism = self._learned(aggregation, places)
        aggregation = replace(aggregation, normalize="none")  # done already
        own_SD, scored_SD = (aggregate(_layers(v_LSD, places), aggregation, layers).numpy() for v_LSD in self._summed)
        return own_SD, scored_SD, optimism

    def _learned(self, aggregation: AggregationConfig, places: list[int]) -> tuple[AggregationConfig, float]:
        """The aggregation with its weights, and their optimism."""
        all_layers, labels = self._products
        products = all_layers.of_layers(places)
        learned = weights_of_products(products, labels, self.seed)
        own = spearman_rows(weighted_cosines(products, learned.weights_L)[None], labels)[0]
        return weighted(aggregation, learned), float(own) - learned.cross_validated


@dataclass(frozen=True)
class Search:
    """What the configurations of a search share.

    Attributes:
        embedder: of the run: its model, its prompt, and how layers are normalized. source: of its vectors.
        split: of `dataset`, that configurations are chosen on and everything is fitted to.
    """

    embedder: Embedder
    source: VectorSource
    dataset: DatasetConfig
    split: str

    def rows(
        self, search: SearchConfig, postprocess: PostprocessConfig, splits: Sequence[PairSplit], seed: int
    ) -> Iterator[SearchRow]:
        """A row for each configuration that has a Spearman; one that has none is logged.

        Raises:
            UserError: the split is scored, cannot be read, or leaves too few pairs; or layers that do not exist.
            NonFiniteError: NaN or infinity in vectors.
        """
        chosen = self._chosen(splits)
        model = self.embedder.encoder.loaded
        blocks = model.model.config.num_hidden_layers
        aggregation = self.embedder.aggregation
        for pooling, together in itertools.groupby(
            configurations(search, aggregation, self.split, blocks), key=lambda configuration: configuration.pooling
        ):
            of_pooling = list(together)
            layers = sorted({layer for configuration in of_pooling for layer in configuration.layers})
            own_LSD, scored_LSD = (
                self.source.of(split.sentences, pooling, layers) for split in (chosen.split, chosen.scored)
            )
            place = {layer: number for number, layer in enumerate(layers)}
            pooled = _Pooled(place, own_LSD, scored_LSD, aggregation.normalize, chosen, seed)
            for configuration in of_pooling:
                depth = model.depth(configuration.layers)
                yield from _scored(pooled, configuration, depth, search.postprocesses, postprocess.components)

    def _chosen(self, splits: Sequence[PairSplit]) -> _Chosen:
        labels_N = fitting_pairs(self.dataset, "select.split", self.split, splits).labels
        split = load_fit_split(self.dataset, self.split)
        seen_S = np.zeros(len(split.sentences), dtype=bool)
        for scored in splits:
            seen_S |= split.sentences.is_in(scored.sentences)
        kept = np.flatnonzero(~np.logical_or(*np.split(seen_S, 2)))
        pairs = np.concatenate([kept, kept + len(split)])
        return _Chosen(split, splits[0], np.flatnonzero(~seen_S), pairs, labels_N)


def _scored(
    pooled: _Pooled, configuration: Configuration, depth: int, postprocesses: Sequence[str], components: int
) -> Iterator[SearchRow]:
    """A row for each post-processing of a configuration."""
    chosen = pooled.chosen
    try:
        own_SD, scored_SD, optimism = pooled.vectors(configuration)
    except UndefinedError as error:
        log_line(f"search: {configuration.overrides('none')} is left out: {error}")
        return
    statistics = VectorStatistics(own_SD[chosen.fitted_on])
    own, scored = (PairVectors(part_SD, statistics.mean_D) for part_SD in (own_SD[chosen.pairs], scored_SD))
    for name in postprocesses:
        overrides = configuration.overrides(name)
        try:
            post = statistics.postprocess(name, components)
            own_N, scores_P = own.cosines(post), scored.cosines(post)
        except UserError as error:
            log_line(f"search: {overrides} is left out: {error}")
            continue
        except NonFiniteError as error:
            raise NonFiniteError(f"{overrides}: {error}") from error
        if np.ptp(own_N) == 0 or np.ptp(scores_P) == 0:
            log_line(f"search: {overrides} is left out: all its scores are equal")
            continue
        chosen_on = float(spearman_rows(own_N[None], chosen.labels_N)[0]) - optimism
        dimension = scored_SD.shape[1] if post.whitening_DR is None else post.whitening_DR.shape[1]
        yield SearchRow(overrides, depth, dimension, chosen_on, scores_P)


def spearman_rows(scores_KP: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
    """Spearman of each row of scores with the labels, [K]; NaN for a row of equal scores."""
    from scipy.stats import rankdata

    ranks_KP, label_rank_P = rankdata(scores_KP, axis=1), rankdata(labels_P)
    ranks_KP -= ranks_KP.mean(1, keepdims=True)
    label_rank_P -= label_rank_P.mean()
    with np.errstate(invalid="ignore"):
        spearman_K: np.ndarray = ranks_KP @ label_rank_P
        spearman_K /= np.sqrt((ranks_KP**2).sum(1) * (label_rank_P @ label_rank_P))
    return spearman_K


def _layers(v_LSD: Tensor, places: Sequence[int]) -> Tensor:
    """Some of the layers: without a copy where they follow each other."""
    first, last = places[0], places[-1]
    consecutive = list(places) == list(range(first, last + 1))
    return v_LSD[first : last + 1] if consecutive else v_LSD[torch.tensor(places)]
