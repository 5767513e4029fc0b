"""What a run gives to choose by: its figures on the split to choose on, and a search of many configurations.

Shapes: S sentences, D dimensions, P scored pairs, K configurations, R resamples.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from rwkv_sweep.config.fitting_splits import aggregation_split, selection_split
from rwkv_sweep.config.schema import PostprocessConfig, SearchConfig, SelectConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.errors import UndefinedError, UserError
from rwkv_sweep.evaluation.layer_choice.search import Search, spearman_rows
from rwkv_sweep.evaluation.metrics import paired_difference
from rwkv_sweep.evaluation.quality import QualityPass
from rwkv_sweep.evaluation.representation_pass import scored_vectors
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.evaluation.selection_pass import measure_selection
from rwkv_sweep.models.quantization import weights_bytes
from rwkv_sweep.profiling.memory import MIB
from rwkv_sweep.records.results import write_search
from rwkv_sweep.stats.bootstrap import bootstrap_spearman, percentile_bounds
from rwkv_sweep.stats.intervals import Interval
from rwkv_sweep.sweep.runs.job import Job, Measured


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
        measured.add(*_searched(job, Search(quality.embedder, source, run.dataset, spec), splits, resampling))
    return measured


def _searched(
    job: Job, searching: Search, splits: Sequence[PairSplit], resampling: Resampling
) -> tuple[dict[str, float], dict[str, str]]:
    """As `run_search`, and how its time divides between forward passes and all else."""
    run = job.run
    check_weights(run.select.max_weights_mib, weights_bytes(searching.embedder.encoder.loaded.model) / MIB)
    before = job.clock.seconds.get("forward", 0.0)
    metrics, tags = run_search(searching, run.search, run.postprocess, splits, resampling, job.place.folder)
    forward = job.clock.seconds.get("forward", 0.0) - before
    return {**metrics, "search/forward_s": forward, "search/scoring_s": metrics["search/seconds"] - forward}, tags


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
    started = time.perf_counter()
    with torch.inference_mode():
        rows = list(searching.rows(search, postprocess, splits, resampling.seed))
    if not rows:
        raise UndefinedError("no configuration of the search has a Spearman")
    labels_P = splits[0].labels
    rows.sort(key=lambda row: -row.chosen_on)  # stable: ties stay in the order of the grid
    resampled_KR = bootstrap_spearman([row.scores_P for row in rows], labels_P, resampling.bootstrap, resampling.seed)
    spearman_K = spearman_rows(np.stack([row.scores_P for row in rows]), labels_P)
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
    """Raises UserError where a search has no split to choose on, has a limit for latencies, which it does not measure,
    or would count `idf` in the scored sentences."""
    if not search.enabled:
        return
    if split is None:
        raise UserError(
            f"search.enabled=true select.split={select.split}: valid is a split of the dataset to choose on, other "
            "than what is scored, such as select.split=train"
        )
    if select.max_latency_ms is not None:
        raise UserError(
            f"select.max_latency_ms={select.max_latency_ms:g} with search.enabled=true, which times no configuration: "
            "valid is null; sweep the first rows of search.csv with -m, where the limit holds"
        )
    if "idf" in search.poolings and pooling_fit is None:
        raise UserError(
            "search.poolings with idf and pooling.fit=null: valid is a split in whose sentences tokens are counted, "
            f"such as pooling.fit={split}, or search.poolings without idf"
        )


def check_weights(limit: float | None, weights_mib: float) -> None:
    """Raises UserError where the model, which all configurations of a search share, is larger than `limit` allows."""
    if limit is not None and weights_mib > limit:
        raise UserError(
            f"select.max_weights_mib={limit:g} with search.enabled=true: every configuration has the model's "
            f"{weights_mib:.1f} MiB of weights: valid is a limit of {weights_mib:.1f} or more, or another model or "
            "precision"
        )
