"""The measuring of one run, in order: data, model, quality, parity, speed, memory.

Shapes: S sentences.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rwkv_sweep.config.fitting_splits import output_split
from rwkv_sweep.config.layer_spec import layers_name
from rwkv_sweep.config.params import data_key
from rwkv_sweep.data.corpus import calibration_corpus, load_corpus, scored_corpus
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.fp32_reference import is_reference
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder, tokens_per_batch
from rwkv_sweep.embedding.pooling import IDF, RESIDUAL, name_of, source_of
from rwkv_sweep.errors import UnsupportedError, ends_the_program
from rwkv_sweep.evaluation.baselines import baseline_scores
from rwkv_sweep.evaluation.layer_choice.weights_pass import equal_weights, fit_aggregation
from rwkv_sweep.evaluation.output_formats import FLOAT32, OutputFormat, vector_bytes
from rwkv_sweep.evaluation.parity_pass import measure_parity
from rwkv_sweep.evaluation.probe_pass import measure_probe
from rwkv_sweep.evaluation.quality import OutputFit, PostprocessFit, measure_quality
from rwkv_sweep.evaluation.representation_pass import measure_representation, read_token_statistics, scored_vectors
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.evaluation.tasks.task_pass import measure_tasks
from rwkv_sweep.hardware.devices import current_device, resolve_device, set_threads
from rwkv_sweep.hardware.environment import environment_tags
from rwkv_sweep.models.common.interface import LoadedModel
from rwkv_sweep.models.quantization import audit, weights_bytes
from rwkv_sweep.profiling.energy import read_idle_power
from rwkv_sweep.profiling.memory import MemoryWatch
from rwkv_sweep.profiling.speed import compared_batch, measure_speed
from rwkv_sweep.profiling.speedup import measure_speedup
from rwkv_sweep.records.failures import failed, without_non_finite
from rwkv_sweep.records.results import FINISHED, UNSUPPORTED, Result, write_audit
from rwkv_sweep.sweep.runs.checking import check_device, check_layers, check_use
from rwkv_sweep.sweep.runs.choosing import choose
from rwkv_sweep.sweep.runs.encoder_keeping import keep_encoder
from rwkv_sweep.sweep.runs.job import Job, Measured
from rwkv_sweep.sweep.runs.oom_retry import with_smaller_batches
from rwkv_sweep.utils.console import log_line_once


def attempt(job: Job) -> Result:
    """Measure, with smaller batches where memory does not suffice; whatever fails becomes a result with its reason."""
    planned = job.planned
    try:
        batch_tokens = tokens_per_batch(job.run.batch_tokens, resolve_device(job.run.device))
        planned = replace(planned, params={**planned.params, "batch_tokens": batch_tokens})
        result = with_smaller_batches(
            batch_tokens,
            lambda size: measure_run(replace(job, run=replace(job.run, batch_tokens=size), planned=planned)),
        )
    except UnsupportedError as error:
        result = replace(failed(planned, error), status=UNSUPPORTED)
    except BaseException as error:
        if ends_the_program(error):
            raise
        result = failed(planned, error)
    return without_non_finite(replace(result, metrics={**result.metrics, **job.clock.metrics()}))


def measure_run(job: Job) -> Result:
    """Quality pass, then speed pass, each from its own forwards.

    Raises:
        whatever hinders it; `attempt` makes a record of that.
    """
    set_threads(job.run.device)
    device = resolve_device(job.run.device)
    with current_device(device):
        return _measured(job, device)


def _measured(job: Job, device: torch.device) -> Result:
    run = job.run
    if device.type == "cuda" and run.measure.throughput and run.measure.energy_seconds > 0:
        read_idle_power(device)
    with job.clock.stage("load"):
        splits = load_splits(run.dataset)
        calibration = calibration_corpus(run.precision, run.dataset, splits)
        loaded = job.process.model.load(run.model, run.precision, device, calibration)
    shape = loaded.model.config
    layers = check_layers(run.layer, run.pooling.spec, run.aggregation, run.postprocess, shape)
    check_use(run.model, run.precision, run.pooling.spec, run.max_tokens, shape)
    check_device(run.precision, run.device)
    measured = _described(job, loaded, splits, layers, device)
    encoder = _encoder(job, loaded, splits, measured, device)
    embedder = Embedder(encoder, layers, run.pooling.spec, run.aggregation)
    if device.type == "cuda":
        with job.clock.stage("load"):
            read = job.process.tokens.read(encoder, splits[0], run.seed)
            job.process.kernels.compile_job(embedder, run.precision, run.measure, splits[0], read)
    embedder, form = _score(job, embedder, splits, measured)
    with job.clock.stage("scoring"):
        measured.tags |= keep_encoder(job, embedder, form)
    audited = audit(loaded.model, run.precision, device)
    write_audit(job.place.folder, audited.record())
    measured.tags["quantized_kernel"] = audited.kernel
    memory = MemoryWatch(device, weights_bytes(loaded.model), job.process.reference.allocated_bytes)
    if not memory.peak_is_of_this_run:
        measured.tags["note.process_peak"] = "of the whole process: this system cannot reset it"
    _time(job, embedder, splits[0], memory, measured)
    measured.metrics |= memory.metrics() | audited.metrics()
    if run.measure.speedup_rounds and not is_reference(run.precision):
        _compare_with_fp32(job, embedder, splits[0], measured)
    return replace(
        job.planned,
        status=FINISHED,
        params={**job.planned.params, **measured.params},
        metrics=measured.metrics,
        tags=measured.tags,
        ended=time.time(),
    )


def _described(
    job: Job, loaded: LoadedModel, splits: list[PairSplit], layers: tuple[int, ...], device: torch.device
) -> Measured:
    """What ran, of which model and data, on what."""
    tags = {
        **environment_tags(device),
        **loaded.kernel_tags,
        "model_fingerprint": loaded.fingerprint,
        "tokenizer": loaded.tokenizer.name,
        "data_fingerprint": splits[0].fingerprint,
    }
    source = source_of(job.run.pooling.spec)
    if source != RESIDUAL and device.type == "cuda":
        tags["blocks"] = f"PyTorch (pooling.source={source})"
        log_line_once(f"pooling.source={source}: the plain blocks run, as the fused ones keep their inner vectors")
    layer = layers_name(layers, loaded.model.config.num_hidden_layers)
    return Measured({"layer": layer, "depth": loaded.depth(layers)}, {}, tags)


def _encoder(
    job: Job, loaded: LoadedModel, splits: list[PairSplit], measured: Measured, device: torch.device
) -> RwkvEncoder:
    """With the weights of `pooling=idf`, where the sweep will want them."""
    run = job.run
    encoder = RwkvEncoder(loaded, run.prompt, device, run.max_tokens, tokens_per_batch(run.batch_tokens, device))
    if IDF not in map(name_of, job.poolings):
        return encoder
    corpus = load_corpus(run.pooling, run.dataset) or scored_corpus(splits)
    if run.pooling.name == IDF:
        params, tags = corpus.record(splits)
        measured.params |= params
        measured.tags |= tags
    return encoder.with_idf([corpus.texts])


def _score(job: Job, embedder: Embedder, splits: list[PairSplit], measured: Measured) -> tuple[Embedder, OutputFormat]:
    """The quality pass, and parity with fp32; returns the embedder with aggregation and post-processing fitted, and the
    format that its vectors were compared in (float32 for random weights, which are not scored)."""
    run, loaded = job.run, embedder.encoder.loaded
    kept = run.store.enabled and loaded.trained
    store = EmbeddingStore(Path(run.store.path).absolute(), run.store.max_gib) if kept else None
    source = VectorSource(embedder.encoder, run.precision, job.poolings, store, job.clock)
    fitting = PostprocessFit(run.postprocess, run.dataset)
    resampling = Resampling(run.bootstrap, run.seed, job.place.record.jobs or 1)
    with job.clock.stage("scoring"):
        fitted = (
            fit_aggregation(embedder, source, run.dataset, splits, run.seed)
            if loaded.trained
            else equal_weights(embedder)
        )
    embedder, form = fitted.embedder, FLOAT32
    measured.params |= fitted.params
    measured.add(fitted.metrics, fitted.tags)
    if loaded.trained:
        with job.clock.stage("scoring"):
            # First, so that the vectors to be scored come from the same forward pass.
            tokens_S3 = read_token_statistics(source, embedder, splits[0]) if run.measure.representation else None
            baselines = baseline_scores(run.baselines, data_key(run), splits[0], job.place.root)
            output = OutputFit(run.output, output_split(run.output, run.output_fit, run.dataset))
            quality = measure_quality(
                embedder, source, splits, fitting, output, baselines, resampling, job.place.folder
            )
        embedder, form = quality.embedder, quality.form
        measured.params["postprocess.fit"] = quality.fitted_on
        measured.add(quality.metrics, {"quality_source": quality.source, **quality.notes})
        with job.clock.stage("scoring"):
            _describe(job, embedder, source, splits[0], tokens_S3, measured)
            choosing = choose(job, quality, source, splits, fitted.metrics, resampling)
        measured.params |= choosing.params
        measured.add(choosing.metrics, choosing.tags)
    else:
        measured.tags["note.quality"] = "absent: the weights are random"
    measured.metrics["memory/vector_bytes"] = float(vector_bytes(run.output, embedder.dimension))
    if run.measure.parity and is_reference(run.precision):
        measured.tags["parity"] = "none: fp32 is the reference of the others"
    elif run.measure.parity:
        with job.clock.stage("scoring"):
            reference = job.process.reference
            measured.add(*measure_parity(embedder, source, run.model, fitting, splits, resampling, reference))
    return embedder, form


def _describe(
    job: Job,
    embedder: Embedder,
    source: VectorSource,
    split: PairSplit,
    tokens_S3: np.ndarray | None,
    measured: Measured,
) -> None:
    """Representation metrics, probe, and tasks of `mteb`, where they are asked for."""
    run = job.run
    if run.measure.representation:
        measured.add(*measure_representation(embedder, source, split, tokens_S3, run.seed, job.place.folder))
    if run.measure.probe and run.measure.probe_fit is not None:
        vectors = partial(scored_vectors, source, embedder)
        measured.add(*measure_probe(vectors, run.dataset, run.measure.probe_fit, split, run.bootstrap, run.seed))
    if run.dataset.tasks:
        vectors = partial(scored_vectors, source, embedder)
        revision = embedder.encoder.loaded.fingerprint
        measured.metrics |= measure_tasks(vectors, embedder.dimension, run.dataset.tasks, job.place.name, revision)


def _time(job: Job, embedder: Embedder, split: PairSplit, memory: MemoryWatch, measured: Measured) -> None:
    """The speed pass."""
    with job.clock.stage("timing"):
        read = job.process.tokens.read(embedder.encoder, split, job.run.seed)
        measured.add(*measure_speed(embedder, job.run.measure, split, read, job.place.folder, memory, job.run.seed))


def _compare_with_fp32(job: Job, embedder: Embedder, split: PairSplit, measured: Measured) -> None:
    """The time of this precision over that of fp32."""
    run = job.run
    with job.clock.stage("timing"):
        read = job.process.tokens.read(embedder.encoder, split, run.seed)
        batch = compared_batch(embedder, read)
        pairs = split.first_pairs(run.measure.latency_pairs or len(split))
        rounds, reference = run.measure.speedup_rounds, job.process.reference
        measured.add(*measure_speedup(embedder, run.model, pairs, batch, rounds, run.seed, reference))
