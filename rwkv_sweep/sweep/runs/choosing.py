"""What a run gives to choose by: its figures on the split to choose on, and a search of many configurations.

Shapes: L layers, S sentences, D dimensions, N pairs to choose on, P scored pairs, K configurations, R
resamples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rwkv_sweep.config.fitting_splits import aggregation_split, selection_split
from rwkv_sweep.config.schema import DatasetConfig, PostprocessConfig, SearchConfig, SelectConfig
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit, load_fit_split
from rwkv_sweep.embedding.aggregation import aggregate
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.postprocessing import fit
from rwkv_sweep.errors import NonFiniteError, UndefinedError, UserError
from rwkv_sweep.evaluation.layer_choice.grid import Configuration, configurations
from rwkv_sweep.evaluation.layer_choice.weights_pass import learned_weights, weighted
from rwkv_sweep.evaluation.metrics import paired_difference
from rwkv_sweep.evaluation.quality import QualityPass, pair_scores
from rwkv_sweep.evaluation.representation_pass import scored_vectors
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.evaluation.selection_pass import measure_selection
from rwkv_sweep.records.results import write_search
from rwkv_sweep.stats.bootstrap import bootstrap_spearman, percentile_bounds
from rwkv_sweep.stats.intervals import Interval
from rwkv_sweep.sweep.runs.job import Job, Measured
from rwkv_sweep.utils.console import log_line


def choose(
    job: Job,
    quality: QualityPass,
    source: VectorSource,
    splits: Sequence[PairSplit],
    learned: Mapping[str, float],
    resampling: Resampling,
) -> Measured:
    """Figures on the split that configurations are chosen on, if there is one, and the search, where it is asked for.

    Args:
        learned: metrics of fitted weights of layers.
    """
    run = job.run
    spec = selection_split(run.select, run.dataset)
    measured = Measured({"select.split": spec})
    if spec is None:
        return measured

    def vectors(sentences: Sequence[str]) -> np.ndarray:
        return quality.form.restored(scored_vectors(source, quality.embedder, sentences))

    weights = learned if spec == aggregation_split(run.aggregation, run.dataset) else {}
    if not run.search.enabled:
        measured.add(*measure_selection(vectors, run.dataset, spec, splits, run.bootstrap, run.seed, weights))
    else:  # of the whole split: the run's own figure there would need a pass over other sentences
        search = Search(quality.embedder, source, run.dataset, spec)
        measured.add(*run_search(search, run.search, run.postprocess, splits, resampling, job.place.folder))
    return measured


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
        from scipy.stats import spearmanr

        model = self.embedder.encoder.loaded
        blocks = model.model.config.num_hidden_layers
        labels_N = fitting_pairs(self.dataset, "select.split", self.split, splits).labels
        whole, scored = load_fit_split(self.dataset, self.split), splits[0]
        seen_S = np.zeros(len(whole.sentences), dtype=bool)
        for split in splits:
            seen_S |= whole.sentences.is_in(split.sentences)
        kept = np.flatnonzero(~np.logical_or(*np.split(seen_S, 2)))
        pairs = np.concatenate([kept, kept + len(whole)])
        for configuration in configurations(search, self.embedder.aggregation, self.split, blocks):
            layers = configuration.layers
            ours, theirs = (
                self.source.of(texts, configuration.pooling, layers) for texts in (whole.sentences, scored.sentences)
            )
            optimism, aggregation = 0.0, configuration.aggregation
            try:
                if aggregation.name == "learned":
                    learned = learned_weights(aggregation, ours.numpy()[:, pairs], labels_N, seed)
                    aggregation = weighted(aggregation, learned)
                    fitted_SD = aggregate(ours, aggregation, layers).numpy()[pairs]
                    own = spearmanr(pair_scores(fitted_SD), labels_N).statistic
                    optimism = float(own) - learned.cross_validated
            except UndefinedError as error:
                log_line(f"search: {configuration.overrides('none')} is left out: {error}")
                continue
            vectors = [aggregate(vectors_LSD, aggregation, layers).numpy() for vectors_LSD in (ours, theirs)]
            depth = model.depth(layers)
            yield from _processed(
                configuration, search, postprocess, vectors, ~seen_S, pairs, labels_N, depth, optimism
            )


def _processed(
    configuration: Configuration,
    search: SearchConfig,
    postprocess: PostprocessConfig,
    vectors: Sequence[np.ndarray],
    fitted_on_S: np.ndarray,
    pairs: np.ndarray,
    labels_N: np.ndarray,
    depth: int,
    optimism: float,
) -> Iterator[SearchRow]:
    """A row for each post-processing of the vectors [S, D] of the split to choose on and of the scored one.

    Args:
        fitted_on_S: sentences of the former that are not scored. pairs: their pairs, first and second sentences.
        optimism: what is subtracted from Spearman on them, as weights were fitted to these very pairs.
    """
    from scipy.stats import spearmanr

    for name in search.postprocesses:
        overrides = configuration.overrides(name)
        try:
            post = fit(name, vectors[0][fitted_on_S] if name != "none" else vectors[0][:0], postprocess.components)
            own, scored = (post.apply(part_SD) if name != "none" else part_SD for part_SD in vectors)
            own_N, scores_P = pair_scores(own[pairs]), pair_scores(scored)
        except UserError as error:
            log_line(f"search: {overrides} is left out: {error}")
            continue
        if not (np.isfinite(own_N).all() and np.isfinite(scores_P).all()):
            raise NonFiniteError(f"{overrides} gives NaN or infinity")
        if np.ptp(own_N) == 0 or np.ptp(scores_P) == 0:
            log_line(f"search: {overrides} is left out: all its scores are equal")
            continue
        chosen_on = float(spearmanr(own_N, labels_N).statistic) - optimism
        yield SearchRow(overrides, depth, scored.shape[1], chosen_on, scores_P)


def run_search(
    searching: Search,
    search: SearchConfig,
    postprocess: PostprocessConfig,
    splits: Sequence[PairSplit],
    resampling: Resampling,
    folder: Path,
) -> tuple[dict[str, float], dict[str, str]]:
    """Score all configurations and write `search.csv`, the best on the split to choose on first.

    Returns:
        Metrics and tags `search/*`: of the chosen configuration, and of the highest on the scored split.

    Raises:
        UndefinedError: no configuration has a Spearman.
        UserError, NonFiniteError: as `Search.rows`.
    """
    from scipy.stats import spearmanr

    started = time.perf_counter()
    with torch.inference_mode():
        rows = list(searching.rows(search, postprocess, splits, resampling.seed))
    if not rows:
        raise UndefinedError("no configuration of the search has a Spearman")
    labels_P = splits[0].labels
    rows.sort(key=lambda row: -row.chosen_on)  # stable: ties stay in the order of the grid
    resampled_KR = bootstrap_spearman([row.scores_P for row in rows], labels_P, resampling.bootstrap, resampling.seed)
    spearman_K = np.array([float(spearmanr(row.scores_P, labels_P).statistic) for row in rows])
    bounds = [percentile_bounds(resampled_R) for resampled_R in resampled_KR]
    highest = int(spearman_K.argmax())
    loss = paired_difference(rows[highest].scores_P, rows[0].scores_P, labels_P, resampling.bootstrap, resampling.seed)
    write_search(
        folder,
        [
            (row.overrides, row.depth, row.dimension, row.chosen_on, float(spearman), *low_high)
            for row, spearman, low_high in zip(rows, spearman_K, bounds, strict=True)
        ],
    )
    own = Interval(float(spearman_K[0]), *bounds[0])
    metrics = {
        "search/configurations": float(len(rows)),
        "search/chosen_on": rows[0].chosen_on,
        "search/highest": float(spearman_K[highest]),
        "search/seconds": time.perf_counter() - started,
        **own.metrics("search/spearman"),
        **Interval(loss.value, loss.lo, loss.hi).metrics("search/loss"),
    }
    return metrics, {"search.chosen": rows[0].overrides, "search.highest": rows[highest].overrides}


def check_search(search: SearchConfig, select: SelectConfig, split: str | None, pooling_fit: str | None) -> None:
    """Raises UserError where a search has no split to choose on, or would count `idf` in the scored sentences."""
    if not search.enabled:
        return
    if split is None:
        raise UserError(
            f"search.enabled=true select.split={select.split}: valid is a split of the dataset to choose on, other "
            "than what is scored, such as select.split=train"
        )
    if "idf" in search.poolings and pooling_fit is None:
        raise UserError(
            "search.poolings with idf and pooling.fit=null: valid is a split in whose sentences tokens are counted, "
            f"such as pooling.fit={split}, or search.poolings without idf"
        )
