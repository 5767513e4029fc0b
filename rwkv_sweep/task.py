"""One run in order: data, encoder, quality, speed, memory, record, tracking."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor

from rwkv_sweep.aggregation import AGGREGATES
from rwkv_sweep.baselines import baseline_deltas, pair_rows
from rwkv_sweep.config import RunConfig, run_config
from rwkv_sweep.dataset import PairSplit, load_splits
from rwkv_sweep.devices import resolve_device, set_threads
from rwkv_sweep.environment import environment_tags
from rwkv_sweep.errors import NonFiniteError, UserError
from rwkv_sweep.evaluate import cosine
from rwkv_sweep.extract import RwkvEncoder, Tokenized
from rwkv_sweep.layers import layers_name
from rwkv_sweep.measure import MemoryWatch, measure_latency, measure_throughput
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.models.precision import weights_bytes
from rwkv_sweep.params import flat_params, run_name
from rwkv_sweep.pooling import POOLS
from rwkv_sweep.preflight import check_run
from rwkv_sweep.quality import quality_metrics
from rwkv_sweep.results import FAILED, FINISHED, KILLED, Result, write_latency, write_pairs
from rwkv_sweep.sweep import SweepRecord
from rwkv_sweep.terminal import progress_bar, quiet_dependencies, say


@dataclass(frozen=True)
class Place:
    """folder: the job's own. root: the sweep's (the same for a single run). name: the run's. record: the sweep."""

    folder: Path
    root: Path
    name: str
    record: SweepRecord


def run_task(cfg: DictConfig) -> float | None:
    """Carry out one job; a failure is recorded, told in one line, and leaves the rest of a sweep to go on.

    Returns:
        Spearman of the first split (for optimizing sweepers), or None where there is none.
    """
    quiet_dependencies()
    run = run_config(cfg)
    place = _place(run)
    planned = Result(place.name, "model", FAILED, flat_params(run), started=time.time())
    say(place.name)
    try:
        result = measure_run(run, planned, place)
    except KeyboardInterrupt:
        _keep(replace(planned, status=KILLED, ended=time.time()), run, place)
        raise
    except Exception as error:
        result = replace(planned, error=_told(error), ended=time.time())
        say(f"{place.name} failed: {result.error['message'] if result.error else error}", error=True)
    _keep(result, run, place)
    return result.metrics.get("quality/spearman")


def measure_run(run: RunConfig, planned: Result, place: Place) -> Result:
    """Quality pass, then speed pass, each from its own forwards."""
    set_threads(run.device)
    device = resolve_device(run.device)
    splits = load_splits(run.dataset)
    loaded = load_model(run.model, run.precision, device)
    layers = check_run(run, loaded.model.config)
    encoder = RwkvEncoder(loaded, POOLS[run.pooling.name], device, run.max_tokens, run.batch_tokens)
    embedder = Embedder(encoder, layers, run)
    weights = weights_bytes(loaded.model)
    tags = {
        **environment_tags(device),
        **loaded.kernel_tags,
        "model_fingerprint": loaded.fingerprint,
        "tokenizer": loaded.tokenizer.name,
        "data_fingerprint": splits[0].fingerprint,
    }
    num_blocks = loaded.model.config.num_hidden_layers
    params = {**planned.params, "layer": layers_name(layers, num_blocks), "depth": min(max(layers) + 1, num_blocks)}
    metrics: dict[str, float] = {}
    if loaded.trained:
        metrics |= _quality(embedder, run, splits, place)
    else:
        tags["note.quality"] = "absent: the weights are random"
    memory = MemoryWatch(device, weights)
    if not memory.peak_is_of_this_run:
        tags["note.process_peak"] = "of the whole process: this system cannot reset it"
    metrics |= _speed(embedder, run, splits[0], place)
    metrics |= memory.metrics()
    return replace(planned, status=FINISHED, params=params, metrics=metrics, tags=tags, ended=time.time())


@dataclass(frozen=True)
class Embedder:
    """Sentences to one vector each: an encoder, its layers, and how these become one."""

    encoder: RwkvEncoder
    layers: Sequence[int]
    run: RunConfig

    def embed(self, sentences: Sequence[str]) -> Tensor:
        """[S, D'] fp32 on the CPU."""
        with progress_bar(len(sentences), self.run.model.name) as advance:
            return self._aggregate(self.encoder.encode(sentences, self.layers, advance))

    def score_pair(self, first: str, second: str) -> float:
        """Cosine of two sentences, from text to number: what a pair's latency is of."""
        ids = self.encoder.tokenize((first, second)).ids
        one, other = self._aggregate(self.encoder.encode_ids(ids, self.layers))
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    def embed_ids(self, tokenized: Tokenized) -> Tensor:
        """[S, D'] on the device: what throughput is of."""
        return self._aggregate(self.encoder.encode_ids(tokenized.ids, self.layers))

    def _aggregate(self, vectors_LSD: Tensor) -> Tensor:
        return AGGREGATES[self.run.aggregation.name](vectors_LSD)


def _quality(embedder: Embedder, run: RunConfig, splits: Sequence[PairSplit], place: Place) -> dict[str, float]:
    scores: list[np.ndarray] = []
    for split in splits:
        vectors_SD = embedder.embed([*split.sentences1, *split.sentences2]).numpy()
        scores.append(cosine(vectors_SD[: len(split.labels)], vectors_SD[len(split.labels) :]))
    write_pairs(place.folder, pair_rows(splits, scores))
    metrics = quality_metrics(splits, scores, run.bootstrap, run.seed)
    return metrics | baseline_deltas(run, splits, scores, place.root)


def _speed(embedder: Embedder, run: RunConfig, split: PairSplit, place: Place) -> dict[str, float]:
    tokenized = embedder.encoder.tokenize([*split.sentences1, *split.sentences2])
    metrics: dict[str, float] = {"data/tokens": tokenized.tokens, "data/truncated": tokenized.truncated}
    device = embedder.encoder.device
    if run.measure.throughput:
        embedder.embed_ids(Tokenized(tokenized.ids[:64], 0))
        metrics |= measure_throughput(
            lambda: embedder.embed_ids(tokenized), tokenized.tokens, len(split.labels), device
        )
    if run.measure.latency_pairs:
        pairs = list(zip(split.sentences1, split.sentences2, strict=True))
        warmup = pairs[: run.measure.warmup_pairs]
        latency = measure_latency(embedder.score_pair, pairs[: run.measure.latency_pairs], warmup, device)
        metrics |= latency.metrics()
        write_latency(place.folder, latency.samples_ms)
    return metrics


def _place(run: RunConfig) -> Place:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    root = Path(hydra.sweep.dir).absolute() if hydra.mode is not None and hydra.mode.name == "MULTIRUN" else folder
    record = SweepRecord.load(root)
    return Place(folder, root, run_name(run, list(hydra.overrides.task), record.swept), record)


def _keep(result: Result, run: RunConfig, place: Place) -> None:
    result.save(place.folder)
    if run.tracking.enabled:
        from rwkv_sweep.tracking import Tracker

        Tracker(run.tracking).log_result(result, place.folder, place.record.parent)


def _told(error: Exception) -> dict[str, str]:
    known = isinstance(error, (UserError, NonFiniteError))
    message = str(error) if known else f"{type(error).__name__}: {error}"
    return {"kind": type(error).__name__, "message": message}
