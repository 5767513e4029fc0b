"""One run in order: data, encoder, quality, speed, memory, record, tracking."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rwkv_sweep.config.layer_spec import layers_name
from rwkv_sweep.config.output_guard import guard_output
from rwkv_sweep.config.params import flat_params, run_name
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.data.corpus import load_corpus, scored_corpus
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.fp32_reference import is_reference
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder, tokens_per_batch
from rwkv_sweep.embedding.pooling import IDF
from rwkv_sweep.errors import FolderGoneError, UnsupportedError, ends_the_program
from rwkv_sweep.evaluation.parity_pass import measure_parity
from rwkv_sweep.evaluation.quality import measure_quality
from rwkv_sweep.hardware.devices import current_device, resolve_device, set_threads
from rwkv_sweep.hardware.environment import environment_tags
from rwkv_sweep.hardware.gpu_lock import own_gpu
from rwkv_sweep.models.quantization import audit, weights_bytes
from rwkv_sweep.models.resident_model import warm_model
from rwkv_sweep.profiling.memory import MemoryWatch
from rwkv_sweep.profiling.speed import measure_speed, speed_sample
from rwkv_sweep.profiling.speedup import measure_speedup
from rwkv_sweep.records.failures import failed, without_non_finite
from rwkv_sweep.records.job_folders import note_folder
from rwkv_sweep.records.own_files import MULTIRUN_FILE, remove_run
from rwkv_sweep.records.results import FAILED, FINISHED, KILLED, RESULT_FILE, UNSUPPORTED, Result, write_audit
from rwkv_sweep.records.sweep_record import STOP_FILE, SWEEP_FILE, SweepRecord
from rwkv_sweep.sweep.oom_retry import with_smaller_batches
from rwkv_sweep.sweep.preflight import check_run
from rwkv_sweep.sweep.resume import recorded, take_over
from rwkv_sweep.sweep.run_key import run_key
from rwkv_sweep.sweep.subprocess_run import run_isolated
from rwkv_sweep.utils.console import log_line, quiet_dependencies
from rwkv_sweep.utils.files import write_atomically
from rwkv_sweep.utils.redaction import redact_files, remember_uri
from rwkv_sweep.utils.signals import interrupts_wait
from rwkv_sweep.utils.stage_timer import Stopwatch


@dataclass(frozen=True)
class Place:
    """folder: the job's own. root: the sweep's (the same for a single run). name: the run's. record: the sweep.
    number: the job's."""

    folder: Path
    root: Path
    name: str
    record: SweepRecord
    number: int = 0


def run_task(cfg: DictConfig) -> float | None:
    """Carry out one job; a failure is recorded, told in one line, and leaves the rest of a sweep to go on.

    Returns:
        Spearman of the first split (for optimizing sweepers), or None where there is none.
    """
    quiet_dependencies()
    run = run_config(cfg)
    place = _place(run)
    _forget_secrets(run, place)
    if (place.root / STOP_FILE).exists():
        return None
    log_line(place.name)
    planned = Result(place.name, "model", FAILED, flat_params(run), started=time.time(), id=uuid.uuid4().hex)
    clock = Stopwatch()
    try:
        planned = replace(planned, key=run_key(run))
        found = recorded(place.folder, planned.key)
        if found is None and run.resume:
            found = take_over(place.folder, place.root, planned.key, place.name, run.tracking)
        if found is not None:
            log_line(f"{place.name}: finished before, not run again")
            _track(found, run, place, again=True)
            return found.metrics.get("quality/spearman")
        with own_gpu(run, place.number) as settled:
            isolated = partial(run_isolated, settled, planned, place.folder, place.root)
            result = isolated() if run.isolate else attempt(settled, planned, place, clock)
        result = replace(result, tags={**result.tags, "launcher": _launcher(), "isolated": str(run.isolate).lower()})
    except KeyboardInterrupt:
        _hurry(run)
        _keep(replace(planned, status=KILLED, ended=time.time()), run, place, clock)
        raise
    except BaseException as error:  # before anything was measured: model or data are gone
        if ends_the_program(error):
            raise
        result = failed(planned, error)
    _keep(result, run, place, clock)
    _tell(result, run, place)
    return result.metrics.get("quality/spearman")


def attempt(run: RunConfig, planned: Result, place: Place, clock: Stopwatch) -> Result:
    """Measure, with smaller batches where memory does not suffice; whatever fails becomes a result with its reason."""
    try:
        run = replace(run, batch_tokens=tokens_per_batch(run.batch_tokens, resolve_device(run.device)))
        planned = replace(planned, params={**planned.params, "batch_tokens": run.batch_tokens})
        result = with_smaller_batches(run, lambda smaller: measure_run(smaller, planned, place, clock))
    except UnsupportedError as error:
        result = replace(failed(planned, error), status=UNSUPPORTED)
    except BaseException as error:
        if ends_the_program(error):
            raise
        result = failed(planned, error)
    return without_non_finite(replace(result, metrics={**result.metrics, **clock.metrics()}))


def measure_run(run: RunConfig, planned: Result, place: Place, clock: Stopwatch) -> Result:
    """Quality pass, then speed pass, each from its own forwards."""
    set_threads(run.device)
    device = resolve_device(run.device)
    with current_device(device):
        return _measured(run, planned, place, clock, device)


def _measured(run: RunConfig, planned: Result, place: Place, clock: Stopwatch, device: torch.device) -> Result:
    with clock.stage("load"):
        splits = load_splits(run.dataset)
        loaded = warm_model(run.model, run.precision, device)
    layers = check_run(run, loaded.model.config)
    batch_tokens = tokens_per_batch(run.batch_tokens, device)
    encoder = RwkvEncoder(loaded, run.prompt, device, run.max_tokens, batch_tokens)
    poolings = list(dict.fromkeys([run.pooling.name, *place.record.poolings]))
    from_corpus: dict[str, str] = {}
    corpus_tags: dict[str, str] = {}
    if IDF in poolings:
        corpus = load_corpus(run.pooling, run.dataset) or scored_corpus(splits)
        encoder = encoder.with_idf([corpus.texts])
        if run.pooling.name == IDF:
            from_corpus, corpus_tags = corpus.record(splits)
    embedder = Embedder(encoder, layers, run.pooling.name, run.aggregation)
    tags = {
        **environment_tags(device),
        **loaded.kernel_tags,
        "model_fingerprint": loaded.fingerprint,
        "tokenizer": loaded.tokenizer.name,
        "data_fingerprint": splits[0].fingerprint,
        **corpus_tags,
    }
    num_blocks = loaded.model.config.num_hidden_layers
    params = {**planned.params, **from_corpus, "layer": layers_name(layers, num_blocks), "depth": loaded.depth(layers)}
    metrics: dict[str, float] = {}
    if loaded.trained:
        with clock.stage("scoring"):
            jobs = place.record.jobs or 1
            quality = measure_quality(embedder, run, splits, place.folder, place.root, poolings, clock, jobs)
        embedder, metrics = quality.embedder, quality.metrics
        params["postprocess.fit"] = quality.fitted_on
        tags |= {"quality_source": quality.source, **quality.notes}
    else:
        tags["note.quality"] = "absent: the weights are random"
    if run.measure.parity:
        with clock.stage("scoring"):
            found, notes = measure_parity(embedder, run, splits, poolings, clock)
        metrics, tags = metrics | found, tags | notes
    audited = audit(loaded.model, run.precision, device)
    write_audit(place.folder, audited.record())
    tags["quantized_kernel"] = audited.kernel
    memory = MemoryWatch(device, weights_bytes(loaded.model))
    if not memory.peak_is_of_this_run:
        tags["note.process_peak"] = "of the whole process: this system cannot reset it"
    with clock.stage("timing"):
        timed, states = measure_speed(embedder, run, splits[0], place.folder, memory)
    metrics, tags = metrics | timed, tags | states
    metrics |= memory.metrics() | audited.metrics()
    if run.measure.speedup_rounds and not is_reference(run.precision):
        with clock.stage("timing"):
            batch, pairs = speed_sample(embedder, run, splits[0])
            ratios, notes = measure_speedup(embedder, run, pairs, batch)
        metrics, tags = metrics | ratios, tags | notes
    return replace(planned, status=FINISHED, params=params, metrics=metrics, tags=tags, ended=time.time())


def _place(run: RunConfig) -> Place:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    root = Path(hydra.sweep.dir).absolute() if hydra.mode is not None and hydra.mode.name == "MULTIRUN" else folder
    if not (root / SWEEP_FILE).exists():
        remove_run(folder)  # what Hydra has just written of this job
        with contextlib.suppress(OSError):
            root.rmdir()
        raise FolderGoneError(root)
    record = SweepRecord.load(root)
    if Path(record.cwd).is_dir():
        os.chdir(record.cwd)  # a cluster's workers start elsewhere, and relative paths are the command's
    number = 0 if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    note_folder(root, record, number, folder)
    return Place(folder, root, run_name(run, list(hydra.overrides.task), record.swept), record, number)


def _launcher() -> str:
    """Speed is that of a busy machine where the launcher runs several jobs at once."""
    return str(HydraConfig.get().runtime.choices.get("hydra/launcher", "basic"))


def _forget_secrets(run: RunConfig, place: Place) -> None:
    """Hydra may have written the whole config in a launcher's worker that knew no secrets yet."""
    remember_uri(run.tracking.uri)
    guard_output()
    hydra_files = (place.folder / (HydraConfig.get().output_subdir or ".hydra")).glob("*.yaml")
    redact_files([*hydra_files, place.root / MULTIRUN_FILE])


def _keep(result: Result, run: RunConfig, place: Place, clock: Stopwatch) -> None:
    """Record first, MLflow second; then the record once more, with how long that took.

    An interrupt waits for the record, not for the server, which may take long: what that has in part is completed from
    the record at the sweep's end.
    """
    result = replace(result, metrics={**result.metrics, **clock.metrics()})
    with clock.stage("tracking"):
        try:
            with interrupts_wait():
                result.save(place.folder)
        except OSError as error:
            log_line(f"{place.name}: its record cannot be written to {place.folder} ({error.strerror})", error=True)
            return
        _track(result, run, place)
    result = replace(result, metrics={**result.metrics, **clock.metrics()})
    if (place.folder / RESULT_FILE).exists():  # not removed meanwhile
        with interrupts_wait(), contextlib.suppress(OSError):  # without this one figure the record is still whole
            result.save(place.folder)


def _hurry(run: RunConfig) -> None:
    if run.tracking.enabled:
        from rwkv_sweep.tracking import hurry

        hurry()


def _track(result: Result, run: RunConfig, place: Place, again: bool = False) -> None:
    if run.tracking.enabled:
        from rwkv_sweep.tracking import track_result

        track_result(run.tracking, result, place.folder, place.record.parent, again)


def _tell(result: Result, run: RunConfig, place: Place) -> None:
    """Say what went wrong, and stop the sweep if it is to stop then."""
    message = result.error["message"] if result.error else ""
    if result.status == UNSUPPORTED:
        log_line(f"{place.name} unsupported: {message}")
    elif result.status != FINISHED:
        log_line(f"{place.name} failed: {message}", error=True)
        if run.on_error == "stop":
            write_atomically(place.root / STOP_FILE, place.name + "\n")
