"""A run's encoder as a folder that stands alone: weights, tokenizer, what was fitted, and a model card."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from rwkv_sweep.api.loading import check_fingerprints, load_record, run_folder, saved_config
from rwkv_sweep.config.path_values import require_folder_to_be
from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.export.model_card import model_card
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.records.encoder_record import EncoderRecord
from rwkv_sweep.records.own_files import RESULT_FILE
from rwkv_sweep.records.results import Result
from rwkv_sweep.tracking.saved_models import EXAMPLE_FILE, MODEL_FILE, input_example, mlmodel
from rwkv_sweep.utils.files import unfinished_name
from rwkv_sweep.version import __version__

WEIGHTS = "model"
"""The folder within the exported one that holds weights and tokenizer."""
CARD = "README.md"
MODULE = "rwkv_sweep.export.sentence_transformer.RwkvSentenceEncoder"


def export_run(run: str, target: Path, link: bool, tracking_uri: str | None = None) -> None:
    """Write the folder `target`, whole or not at all.

    Args:
        run: as of `Encoder.from_run`.
        link: symbolic links to the weights in place of copies.

    Raises:
        UserError: no finished run, weights that are not there or are others, or a target that is there already.
        OSError: it cannot be written.
    """
    require_folder_to_be("OUT", str(target), "a folder to be made")
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"OUT={target} is there already: valid is a folder to be made, or an empty one")
    with run_folder(run, tracking_uri) as folder:
        record = load_record(folder, run)
        config = saved_config(record, folder, "cpu")
        check_fingerprints(record, config.model)
        if config.precision.calibration_fit is not None:
            raise UserError(
                f"precision.calibration_fit={config.precision.calibration_fit}: the weights were fitted to a split, "
                "which an exported folder does not hold; valid is another precision, or the run's own folder"
            )
        result = Result.load(folder) if (folder / RESULT_FILE).is_file() else None
        fitted = record.load_fitted(folder)
        unfinished = target.absolute().with_name(unfinished_name(target.name, secrets.token_hex(4)))
        try:
            unfinished.mkdir(parents=True)
            model = _copy_model(config.model, unfinished, link)
            exported = replace(record, config=_portable(record.config, model))
            exported.save(unfinished, fitted)
            _write_descriptions(unfinished, exported, result)
            if result is not None:
                result.save(unfinished)
            if target.is_dir():
                target.rmdir()
            os.replace(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _copy_model(model: ModelConfig, target: Path, link: bool) -> dict[str, Any]:
    """Copy what the model is read from; returns the keys of `model` that the copy has in its config."""
    if model.foreign_tokenizer is not None:
        raise UserError(
            f"model.foreign_tokenizer={model.foreign_tokenizer}: an encoder with a mismatched tokenizer is not "
            "exported, valid is null"
        )
    source = model_source(model)
    files = source.files()
    keys: dict[str, Any] = {"source": source.copied_source, "path": None}
    if files:
        (target / WEIGHTS).mkdir()
    for file in files:
        copy = target / WEIGHTS / file.name
        if link:
            copy.symlink_to(file.resolve())
        else:
            shutil.copyfile(file, copy)
        if model.tokenizer is not None and file == Path(model.tokenizer):
            keys["tokenizer"] = f"{WEIGHTS}/{file.name}"
    if files and source.copied_source != "random":
        keys["path"] = WEIGHTS if files[0].suffix == ".json" else f"{WEIGHTS}/{files[0].name}"
    return keys


def _portable(config: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Without paths of this machine: what was fitted on their files is in the folder."""
    groups = {"model": model, "dataset": {"path": None}, "pooling": {"corpus": None}}
    return {**config, **{name: {**config[name], **keys} for name, keys in groups.items()}}


def _write_descriptions(target: Path, record: EncoderRecord, result: Result | None) -> None:
    """Model card, and the files by which MLflow and sentence-transformers know what the folder holds."""
    modules = [{"idx": 0, "name": "0", "path": "", "type": MODULE}]
    versions = {"rwkv_sweep": __version__, **record.versions}
    settings = {"__version__": versions, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    texts = {
        CARD: model_card(record, result),
        "modules.json": json.dumps(modules, indent=2) + "\n",
        "config_sentence_transformers.json": json.dumps(settings, indent=2) + "\n",
        MODEL_FILE: mlmodel(record.dimension),
        EXAMPLE_FILE: input_example(),
    }
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
