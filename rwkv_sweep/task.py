"""One run in order: data, encoder, quality, speed, memory, record, tracking."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rwkv_sweep.config import RunConfig
from rwkv_sweep.dataset import load_splits
from rwkv_sweep.devices import resolve_device, set_threads
from rwkv_sweep.embedder import Embedder
from rwkv_sweep.environment import environment_tags
from rwkv_sweep.errors import NonFiniteError, UnsupportedError, UserError
from rwkv_sweep.extract import RwkvEncoder
from rwkv_sweep.layers import layers_name
from rwkv_sweep.measure import MemoryWatch
from rwkv_sweep.models.precision import audit, weights_bytes
from rwkv_sweep.models.warm import warm_model
from rwkv_sweep.params import flat_params, run_name
from rwkv_sweep.parity_pass import measure_parity
from rwkv_sweep.preflight import check_run
from rwkv_sweep.quality_pass import measure_quality
from rwkv_sweep.results import FAILED, FINISHED, KILLED, UNSUPPORTED, Result, write_audit
from rwkv_sweep.speed_pass import measure_speed
from rwkv_sweep.stopwatch import Stopwatch
from rwkv_sweep.sweep import SweepRecord
from rwkv_sweep.terminal import quiet_dependencies, say
from rwkv_sweep.validation import run_config


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
    clock = Stopwatch()
    try:
        result = measure_run(run, planned, place, clock)
    except KeyboardInterrupt:
        _keep(replace(planned, status=KILLED, ended=time.time()), run, place, clock)
        raise
    except UnsupportedError as error:
        result = replace(planned, status=UNSUPPORTED, error=_told(error), ended=time.time())
        say(f"{place.name} unsupported: {error}")
    except Exception as error:
        result = replace(planned, error=_told(error), ended=time.time())
        say(f"{place.name} failed: {result.error['message'] if result.error else error}", error=True)
    _keep(result, run, place, clock)
    return result.metrics.get("quality/spearman")


def measure_run(run: RunConfig, planned: Result, place: Place, clock: Stopwatch) -> Result:
    """Quality pass, then speed pass, each from its own forwards."""
    set_threads(run.device)
    device = resolve_device(run.device)
    with clock.stage("load"):
        splits = load_splits(run.dataset)
        loaded = warm_model(run.model, run.precision, device)
    layers = check_run(run, loaded.model.config)
    encoder = RwkvEncoder(loaded, run.prompt, device, run.max_tokens, run.batch_tokens)
    poolings = list(dict.fromkeys([run.pooling.name, *place.record.poolings]))
    if "idf" in poolings:
        encoder = encoder.with_idf([split.sentences for split in splits])
    embedder = Embedder(encoder, layers, run.pooling.name, run.aggregation)
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
        with clock.stage("scoring"):
            quality = measure_quality(embedder, run, splits, place.folder, place.root, poolings, clock)
        embedder, metrics = quality.embedder, quality.metrics
        params["postprocess.fit"] = quality.fitted_on
        tags["quality_source"] = quality.source
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
        timed, states = measure_speed(embedder, run, splits[0], place.folder)
    metrics, tags = metrics | timed, tags | states
    metrics |= memory.metrics() | audited.metrics()
    return replace(planned, status=FINISHED, params=params, metrics=metrics, tags=tags, ended=time.time())


def _place(run: RunConfig) -> Place:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    root = Path(hydra.sweep.dir).absolute() if hydra.mode is not None and hydra.mode.name == "MULTIRUN" else folder
    record = SweepRecord.load(root)
    return Place(folder, root, run_name(run, list(hydra.overrides.task), record.swept), record)


def _keep(result: Result, run: RunConfig, place: Place, clock: Stopwatch) -> None:
    """Record first, MLflow second; then the record once more, with how long that took."""
    result = replace(result, metrics={**result.metrics, **clock.metrics()})
    with clock.stage("tracking"):
        result.save(place.folder)
        if run.tracking.enabled:
            from rwkv_sweep.tracking import Tracker

            Tracker(run.tracking).log_result(result, place.folder, place.record.parent)
    replace(result, metrics={**result.metrics, **clock.metrics()}).save(place.folder)


def _told(error: Exception) -> dict[str, str]:
    known = isinstance(error, (UserError, NonFiniteError))
    message = str(error) if known else f"{type(error).__name__}: {error}"
    return {"kind": type(error).__name__, "message": message}
