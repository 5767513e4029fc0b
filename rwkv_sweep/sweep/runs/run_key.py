"""The key of a run: what was asked for, of which model and data, by which code. Equal keys, equal runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rwkv_sweep.config.fitting_splits import LEARNED, calibration_split, output_split, selection_split
from rwkv_sweep.config.path_values import existing_file
from rwkv_sweep.config.schema import DatasetConfig, RunConfig
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.embedding.pooling import IDF
from rwkv_sweep.evaluation.word_baselines.word_vectors import ASSET as WORD_VECTORS
from rwkv_sweep.hardware.devices import resolve_device
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.utils.files import file_stamp, unchanged_file_sha256
from rwkv_sweep.utils.source_digest import source_digest

DECIDING = (
    "config",
    "data",
    "embedding",
    "evaluation",
    "hardware",
    "models",
    "ops",
    "profiling",
    "stats",
    "sweep/runs/job.py",
    "sweep/runs/measuring.py",
    "sweep/runs/choosing.py",
)
"""Sources that decide results; a change of any of them makes every finished run one of another program."""

_HOW_IT_IS_RUN = ("tracking", "store", "report", "objectives", "resume", "isolate", "timeout_s", "on_error")
"""Keys of a run that leave its numbers alone."""


class SplitFingerprints:
    """Fingerprints of splits by config and by the sizes and times of their files, so that no job reads them again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, object], tuple[str, ...]] = {}

    def of(self, cfg: DatasetConfig) -> tuple[str, ...]:
        """Of all splits that `cfg` names.

        Raises:
            UserError: the data are not there or cannot be read.
        """
        key = (repr(cfg), None if cfg.path is None else file_stamp(Path(cfg.path).expanduser()))
        if key not in self._known:
            self._known[key] = tuple(split.fingerprint for split in load_splits(cfg, scored=False))
        return self._known[key]


def run_key(run: RunConfig, known: SplitFingerprints | None = None) -> str:
    """32 hex digits over the config, the content of model, tokenizer and data, the kind of device and the code. Paths,
    and keys that decide only how a job is run, are left out.

    Args:
        known: what this process has read before; None reads all data.

    Raises:
        UserError: model, data or device are not there.
    """
    asked = {key: value for key, value in asdict(run).items() if key not in _HOW_IT_IS_RUN}
    for group in ("model", "dataset", "word_vectors"):
        asked[group].pop("path")
    asked["pooling"].pop("corpus")
    asked["select"] = _deciding_selection(run)
    for tokenizer in ("tokenizer", "foreign_tokenizer"):
        asked["model"].pop(tokenizer)
    asked["device"] = {"type": resolve_device(run.device).type, "threads": run.device.threads}
    known = known or SplitFingerprints()
    content = {"model": model_content(run), "data": data_content(run, known), "words": word_vectors_content(run)}
    content["idf"] = corpus_content(run, known)
    return _digest({"kind": "model", "asked": asked, "content": content, "code": results_code_digest()})


def run_keys(runs: Sequence[RunConfig], known: SplitFingerprints) -> dict[int, str]:
    """`run_key` of each run by its number."""
    return {number: run_key(run, known) for number, run in enumerate(runs)}


def baseline_key(name: str, run: RunConfig, known: SplitFingerprints | None = None) -> str:
    """As `run_key`, of a baseline."""
    dataset = {key: value for key, value in asdict(run.dataset).items() if key != "path"}
    asked = {"name": name, "dataset": dataset, "bootstrap": run.bootstrap, "seed": run.seed}
    asked["measure"] = asdict(run.measure)
    content = {"data": data_content(run, known or SplitFingerprints()), "words": word_vectors_content(run)}
    return _digest({"kind": "baseline", "asked": asked, "content": content, "code": results_code_digest()})


def results_code_digest() -> str:
    """Digest of the sources that `DECIDING` names."""
    return source_digest(*DECIDING)


def model_content(run: RunConfig) -> tuple[str, str]:
    """Fingerprints of weights and tokenizer."""
    return model_source(run.model).fingerprints()


def data_content(run: RunConfig, known: SplitFingerprints) -> list[str]:
    """Fingerprints of the scored splits, and of all those that something is fitted on."""
    fingerprints = list(known.of(run.dataset))
    if run.postprocess.name != "none" and run.postprocess.fit is not None:
        fingerprints += known.of(replace(run.dataset, splits=[run.postprocess.fit]))
    learned = run.aggregation.name == LEARNED
    if learned and (spec := run.aggregation.fit or run.dataset.fit) is not None:
        fingerprints += known.of(replace(run.dataset, splits=[spec]))
    if (spec := selection_split(run.select, run.dataset)) is not None:
        fingerprints += known.of(replace(run.dataset, splits=[spec]))
    if run.measure.probe and run.measure.probe_fit is not None:
        fingerprints += known.of(replace(run.dataset, splits=[run.measure.probe_fit]))
    calibration = calibration_split(run.precision, run.dataset)
    for split in (calibration, output_split(run.output, run.output_fit, run.dataset)):
        if split is not None:
            fingerprints += known.of(replace(run.dataset, splits=[split]))
    return fingerprints


def corpus_content(run: RunConfig, known: SplitFingerprints) -> list[str]:
    """Fingerprints of the split or the file in which `pooling=idf`, of the run or of its search, counts tokens; none
    without one."""
    fingerprints: list[str] = []
    counts_tokens = run.pooling.name == IDF or (run.search.enabled and IDF in run.search.poolings)
    if counts_tokens and run.pooling.fit is not None:
        fingerprints += known.of(replace(run.dataset, splits=[run.pooling.fit]))
    if counts_tokens and run.pooling.corpus is not None:
        path = existing_file("pooling.corpus", run.pooling.corpus, "a text file with one text a line")
        fingerprints.append(unchanged_file_sha256(path))
    return fingerprints


def word_vectors_content(run: RunConfig) -> str | None:
    """SHA-256 of the word vectors' file, where they are a baseline of the run."""
    if "word_vectors" not in run.baselines:
        return None
    path = existing_file("word_vectors.path", run.word_vectors.path or WORD_VECTORS, "a file of word vectors")
    return unchanged_file_sha256(path)


def _deciding_selection(run: RunConfig) -> object:
    """What of `select` decides a run itself; the rest chooses among runs that have finished. A search refuses a model
    above the limit of weights, so that one which finished under another limit is not reused."""
    return [run.select.split, run.select.max_weights_mib] if run.search.enabled else run.select.split


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]
