"""What a run leaves so that its encoder can be made again, see `rwkv_sweep.records.encoder_record`."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.pooling import IDF, name_of
from rwkv_sweep.errors import NonFiniteError
from rwkv_sweep.evaluation.output_formats import OutputFormat
from rwkv_sweep.records.encoder_record import EncoderRecord
from rwkv_sweep.sweep.runs.job import Job
from rwkv_sweep.version import __version__

GROUPS = ("model", "pooling", "precision", "aggregation", "postprocess", "prompt", "dataset")
KEYS = ("layer", "max_tokens", "batch_tokens", "output", "output_fit")
"""Of the config: what decides an encoder's vectors, and the data that the run scored."""
PATHS = (("model", "path"), ("model", "tokenizer"), ("model", "foreign_tokenizer"), ("dataset", "path"))
TOKENIZER_WORDS = ("world", "bytes", "gpt2")
"""Values of `model.tokenizer` and `model.foreign_tokenizer` that are no paths."""


def keep_encoder(job: Job, embedder: Embedder, form: OutputFormat) -> dict[str, str]:
    """Write the encoder of a run into its folder.

    Args:
        embedder: with what was fitted.
        form: that the run compared its vectors in.

    Returns:
        A tag that says why there is none, or nothing.

    Raises:
        OSError: a file cannot be written.
    """
    try:
        reference = embedder.reference_cosines()
    except NonFiniteError as error:  # random weights, whose vectors no one else has asked for
        return {"note.encoder": f"not kept: {error}"}
    loaded = embedder.encoder.loaded
    record = EncoderRecord(
        config={**encoder_config(job, embedder), "output": form.name},
        dimension=form.dimension(embedder.dimension),
        model_fingerprint=loaded.fingerprint,
        tokenizer_fingerprint=loaded.tokenizer.fingerprint,
        device=embedder.encoder.device.type,
        versions=computing_versions(),
        reference=reference,
        run=job.planned.id,
    )
    record.save(job.place.folder, fitted_arrays(embedder, form))
    return {}


def encoder_config(job: Job, embedder: Embedder) -> dict[str, Any]:
    """The config of an encoder, its paths absolute."""
    run = job.run
    config: dict[str, Any] = {group: asdict(getattr(run, group)) for group in GROUPS}
    config |= {key: getattr(run, key) for key in KEYS}
    config["aggregation"] = asdict(embedder.aggregation)  # with the weights that were fitted
    for group, key in PATHS:
        value = config[group][key]
        if value is not None and value not in TOKENIZER_WORDS:
            config[group][key] = os.path.abspath(os.path.expanduser(value))
    return config


def fitted_arrays(embedder: Embedder, form: OutputFormat) -> dict[str, np.ndarray]:
    """What was fitted on texts: post-processing, the weights of `pooling=idf`, and the ranges of `output=int8`."""
    arrays = {} if embedder.postprocess is None else embedder.postprocess.arrays()
    if name_of(embedder.pooling) == IDF and embedder.encoder.idf_V is not None:
        arrays["idf_V"] = embedder.encoder.idf_V.cpu().numpy()
    if form.ranges_2D is not None:
        arrays["output_ranges_2D"] = form.ranges_2D
    return arrays


def computing_versions() -> dict[str, str]:
    """Of this program and of what computes its vectors."""
    return {"rwkv_sweep": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
