"""The encoder of a finished run: where it is, what it needs, and whether it still computes what the run computed.

Shapes: V rows of the embedding table, D dimensions, R directions.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import OmegaConf

from rwkv_sweep.api.fitting import SavedState
from rwkv_sweep.config.path_values import existing_folder
from rwkv_sweep.config.schema import DeviceConfig, ModelConfig, RunConfig
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.postprocessing import Postprocess, needs_fit
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.output_formats import OutputFormat
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.records.encoder_record import ENCODER_FILE, EncoderRecord
from rwkv_sweep.records.own_files import RESULT_FILE, SWEEP_FILE
from rwkv_sweep.records.results import BASELINE, FINISHED, Result
from rwkv_sweep.sweep.runs.encoder_keeping import PATHS, TOKENIZER_WORDS

VALID = "valid is the folder of a finished run, one that rwkv-sweep export wrote, or runs:/ID of MLflow"
REMOTE = ("runs:/", "models:/")
"""Places that MLflow knows."""
TOLERANCE, LOW_PRECISION_TOLERANCE = 1e-3, 2e-2
"""Largest difference between a cosine of the run and the same one here: with fp32 and without quantization, and with
less, whose rounding differs more between devices."""
DEVICES = ("auto", "cpu", "cuda")


def load_saved(
    run: str | os.PathLike[str], device: str | None, tracking_uri: str | None
) -> tuple[RunConfig, SavedState, EncoderRecord]:
    """Config, fitted state and record of a run's encoder, checked against the weights that are there.

    Args: as of `Encoder.from_run`.

    Raises:
        UserError: see `Encoder.from_run`.
    """
    if device is not None and device not in DEVICES:
        raise UserError(f"device={device} is not known: valid are {', '.join(DEVICES)}")
    with run_folder(run, tracking_uri) as folder:
        record = load_record(folder, run)
        arrays = record.load_fitted(folder)
        config = saved_config(record, folder, device)
    idf_V = arrays.pop("idf_V", None)
    form = OutputFormat(config.output, arrays.pop("output_ranges_2D", None))
    if form.name == "int8" and form.ranges_2D is None:
        raise UserError(f"{run} has output=int8 and no ranges of dimensions: {VALID}")
    known = ("mean_D", "removed_RD", "whitening_DR")
    if unknown := sorted(set(arrays) - set(known)):
        raise UserError(f"{run} holds the fitted state {', '.join(unknown)}, which this version does not know")
    if needs_fit(config.postprocess) and not arrays:
        raise UserError(f"{run} has postprocess={config.postprocess.name} and nothing that was fitted: {VALID}")
    check_fingerprints(record, config.model)
    mean_D, removed_RD, whitening_DR = (arrays.get(name) for name in known)
    saved = SavedState(
        config.layer,
        Postprocess(mean_D, removed_RD, whitening_DR) if arrays else None,
        None if idf_V is None else torch.from_numpy(idf_V.copy()),
        form,
    )
    return config, saved, record


@contextlib.contextmanager
def run_folder(run: str | os.PathLike[str], tracking_uri: str | None) -> Iterator[Path]:
    """The folder that holds a run's encoder; of a run in MLflow a copy, there for as long as it is in use.

    Raises:
        UserError: there is none.
    """
    place = os.fspath(run)
    if not place.startswith(REMOTE):
        yield existing_folder("run", place, VALID.removeprefix("valid is "))
        return
    from rwkv_sweep.tracking.model_uris import download_model

    with tempfile.TemporaryDirectory(prefix="rwkv_sweep-") as temporary:
        yield download_model(place, tracking_uri, Path(temporary))


def load_record(folder: Path, run: object) -> EncoderRecord:
    """The record of the encoder in a folder. run: as the caller named it.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        return EncoderRecord.load(folder)
    except FileNotFoundError:
        pass
    if (folder / RESULT_FILE).is_file():
        result = Result.load(folder)
        if result.kind == BASELINE:
            raise UserError(f"run={run} is the baseline {result.name}, which has no encoder: {VALID}")
        if result.status != FINISHED:
            raise UserError(f"run={run} is a run with status {result.status}, which left no encoder: {VALID}")
        why = result.tags.get("note.encoder", "it is of a version that kept none: run it again")
        raise UserError(f"run={run} has no {ENCODER_FILE} ({why}): {VALID}")
    if (folder / SWEEP_FILE).is_file():
        raise UserError(f"run={run} is the folder of a sweep: valid is that of one of its runs, such as {run}/0")
    raise UserError(f"run={run} holds no {ENCODER_FILE}: {VALID}")


def saved_config(record: EncoderRecord, folder: Path, device: str | None) -> RunConfig:
    """The config of the encoder in a folder; paths that stand in it relative start from the folder.

    Raises:
        UserError: a key that this version does not know, or a value that cannot be.
    """
    values = {group: dict(keys) if isinstance(keys, dict) else keys for group, keys in record.config.items()}
    for group, key in PATHS:
        value = values.get(group, {}).get(key)
        if isinstance(value, str) and value not in TOKENIZER_WORDS:
            values[group][key] = str(folder.absolute() / value)
    kind = device or record.device
    values["device"] = asdict(DeviceConfig(kind, kind))
    # Keys that no encoder has, but a config must.
    values["tracking"] = {"enabled": False, "uri": "", "artifacts": "", "experiment": ""}
    values["store"] = {"enabled": False, "path": ""}
    try:
        return run_config(OmegaConf.create(values))
    except UserError as error:
        raise UserError(
            f"{folder / ENCODER_FILE} is of another version of this program, or damaged: {error}"
        ) from error


def check_reference(record: EncoderRecord, embedder: Embedder) -> None:
    """Compare vectors of fixed texts with those of the run.

    Raises:
        UserError: they are others.
    """
    here = embedder.reference_cosines()
    same_length = len(here) == len(record.reference)
    difference = max((abs(a - b) for a, b in zip(here, record.reference, strict=True)), default=0) if same_length else 2
    precision = record.config.get("precision", {})
    exact = precision.get("base") == "float32" and precision.get("quantization") == "none"
    if not difference <= (TOLERANCE if exact else LOW_PRECISION_TOLERANCE):
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        raise UserError(
            f"the vectors of this run are not computed here: cosines of reference texts differ by up to "
            f"{difference:.2g} from those of the run ({record.device}, {versions}): valid is the version that made it, "
            "or a new run"
        )


def check_fingerprints(record: EncoderRecord, model: ModelConfig) -> None:
    """Raises UserError where the weights or the tokenizer that `model` names are not those of the run."""
    place = model.path or model.id or model.source
    weights, tokenizer = model_source(model).fingerprints()
    for what, own, theirs in (
        ("the weights", weights, record.model_fingerprint),
        ("the tokenizer", tokenizer, record.tokenizer_fingerprint),
    ):
        if own != theirs:
            raise UserError(
                f"model {place} does not have {what} of the run (fingerprint {own}, of the run "
                f"{theirs}): valid are those of the run, or a new run"
            )
