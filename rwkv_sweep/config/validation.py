"""A composed config made typed, and checked for everything that needs no file, model or device."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rwkv_sweep.config.groups import STS_TASKS, DatasetConfig
from rwkv_sweep.config.renamed import refuse_renamed
from rwkv_sweep.config.schema import (
    AGGREGATIONS,
    BASELINES,
    BASES,
    CALIBRATIONS,
    NORMALIZATIONS,
    ON_ERROR,
    OUTPUTS,
    POOLING_SOURCES,
    POOLINGS,
    POSTPROCESSES,
    QUANTIZATIONS,
    REPORTS,
    SEARCH,
    SELECT_BY,
    SPANS,
    WORD_SPLITS,
    ModelConfig,
    RunConfig,
    require_one_of,
)
from rwkv_sweep.errors import UserError

CHOICES: dict[str, tuple[str, ...]] = {
    "model.source": ("assets", "hub", "local", "random", "embedding_rwkv", "hf"),
    "pooling.name": POOLINGS,
    "pooling.source": POOLING_SOURCES,
    "precision.base": BASES,
    "precision.quantization": QUANTIZATIONS,
    "precision.calibration": CALIBRATIONS,
    "aggregation.name": AGGREGATIONS,
    "aggregation.normalize": NORMALIZATIONS,
    "postprocess.name": POSTPROCESSES,
    "prompt.span": SPANS,
    "device.type": ("auto", "cpu", "cuda"),
    "dataset.source": ("assets", "hub", "file"),
    "dataset.word_split": WORD_SPLITS,
    "baselines": BASELINES,
    "report": REPORTS,
    "select.by": SELECT_BY,
    **{f"search.{key}": valid for key, valid in SEARCH.items()},
    "on_error": ON_ERROR,
}
"""Keys that take one of these words; of a list, each of its items."""

MOST_INT = 2**31 - 1
"""NumPy and PyTorch take no larger number where these keys go."""

RANGES: dict[str, tuple[float, float]] = {
    "model.hidden_size": (1, 2**20),
    "model.num_blocks": (1, 2**14),
    "model.head_size": (1, 2**12),
    "model.intermediate_size": (1, 2**22),
    "model.vocab_size": (1, 2**24),
    "model.generation": (4, 7),
    "model.eos_count": (0, 1024),
    "model.eos_id": (0, 2**24 - 1),
    "model.eos_chunk": (1, MOST_INT),
    "model.rescale_every": (0, MOST_INT),
    "postprocess.components": (1, MOST_INT),
    "device.index": (0, 1023),
    "device.threads": (1, 1024),
    "max_tokens": (1, MOST_INT),
    "batch_tokens": (1, MOST_INT),
    "measure.latency_pairs": (0, MOST_INT),
    "measure.warmup_pairs": (0, MOST_INT),
    "measure.throughput_seconds": (0, 86_400),
    "measure.speedup_rounds": (0, MOST_INT),
    "measure.energy_seconds": (0, 86_400),
    "measure.overhead_pairs": (1, MOST_INT),
    "measure.overhead_batches": (1, MOST_INT),
    "select.max_latency_ms": (0, 86_400_000),
    "select.max_weights_mib": (0, 2**30),
    "store.max_gib": (0, 2**20),
    "bootstrap": (1, 10_000_000),
    "seed": (0, MOST_INT),
    "timeout_s": (0, 31_536_000),
}
"""Keys that take a number, with their smallest and largest value: every number of the schema is here."""


def run_config(cfg: DictConfig) -> RunConfig:
    """The typed form of a composed config, without Hydra's own node, checked for what needs no file.

    Raises:
        UserError: a key that must be given is missing, or a value is not among the valid ones.
    """
    refuse_renamed(cfg)
    try:
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        # As plain values: a group's node takes its own extra keys (+model.foo=1) along, past the schema.
        values = OmegaConf.to_container(own, resolve=True)
        run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), values))
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    assert isinstance(run, RunConfig)
    run = replace(run, model=_of_folder(run.model))
    _check(run)
    return run if run.dataset.task is None else replace(run, dataset=_of_task(run.dataset, run.dataset.task))


def _of_folder(model: ModelConfig) -> ModelConfig:
    """With `model.path` in place of a `model.id` that names a folder, as transformers itself reads it."""
    if model.source != "hf" or model.path is not None or not model.id:
        return model
    written_as_path = model.id.startswith(("/", "./", "../", "~"))
    if not written_as_path and not os.path.isfile(os.path.join(model.id, "config.json")):
        return model
    return replace(model, id=None, path=model.id)


def _of_task(dataset: DatasetConfig, task: str) -> DatasetConfig:
    """With the hub's dataset of `dataset.task`; what is set already wins, but for another dataset."""
    require_one_of("dataset.task", task, tuple(STS_TASKS))
    name, revision, subset = STS_TASKS[task]
    if dataset.source != "hub" or dataset.id not in (None, name):
        raise UserError(
            f"dataset.task={task} with dataset={dataset.name}, which has pairs of its own: valid is dataset=mteb "
            f"dataset.task={task}"
        )
    return replace(dataset, id=name, revision=dataset.revision or revision, subset=dataset.subset or subset)


def _check(run: RunConfig) -> None:
    for key, valid in CHOICES.items():
        value = _value(run, key)
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                require_one_of(key, item, valid)
    for key, (least, most) in RANGES.items():
        value = _value(run, key)
        if value is None or least <= value <= most:
            continue
        reason = "too small" if value < least else "too large" if value > most else "no number"
        raise UserError(f"{key}={value!s:.40} is {reason}: valid is {range_text(key)}")
    _check_output(run.output)
    _check_template(run.prompt.template, run.prompt.span)
    if run.prompt.span == "second" and (run.model.eos_count or 0) > 1:
        raise UserError(
            f"model.eos_count={run.model.eos_count} with prompt.span=second: valid is 1 or 0, as several end-of-text "
            "tokens repeat or cut the text"
        )
    if run.timeout_s is not None and not (run.isolate and run.timeout_s > 0):
        raise UserError(
            f"timeout_s={run.timeout_s:g} isolate={str(run.isolate).lower()}: valid is a number of seconds above 0 "
            "with isolate=true, as only a process of its own can be ended in time"
        )
    if run.measure.probe and run.measure.probe_fit is None:
        raise UserError(
            "measure.probe=true measure.probe_fit=null: valid is a split of the dataset to train the probe on, other "
            "than the one scored, such as measure.probe_fit=train[:1000]"
        )
    if run.pooling.source != "residual" and run.pooling.name == "state":
        raise UserError(
            f"pooling=state pooling.source={run.pooling.source}: the state is of no tokens, valid with it is "
            "pooling.source=residual"
        )
    if run.pooling.source != "residual" and run.search.enabled:
        raise UserError(
            f"pooling.source={run.pooling.source} search.enabled=true: a search pools the blocks' outputs, valid with "
            "it is pooling.source=residual"
        )
    if run.pooling.source != "residual" and run.model.rescale_every:
        raise UserError(
            f"pooling.source={run.pooling.source} model.rescale_every={run.model.rescale_every}: only a block's output "
            "is scaled, valid with it is pooling.source=residual"
        )
    if not run.objectives:
        raise UserError("objectives=[] is empty: name at least one metric, such as [quality/spearman]")
    if not run.dataset.splits:
        raise UserError("dataset.splits=[] is empty: name at least one split, such as [validation]")


def truncated_to(output: str) -> int | None:
    """Dimensions that `truncate_N` keeps; None for any other value of `output`."""
    match = re.fullmatch(r"truncate_([1-9]\d{0,8})", output)
    return int(match[1]) if match else None


def _check_output(output: str) -> None:
    if output not in OUTPUTS and truncated_to(output) is None:
        raise UserError(f"output={output} is not known: valid are {', '.join(OUTPUTS)}, truncate_N such as truncate_64")


def range_text(key: str) -> str:
    """The range of a key that takes a number, in words."""
    least, most = RANGES[key]
    return f"{least:g} to {most:,}" if most < MOST_INT else f"{least:g} or more"


def _value(run: RunConfig, key: str) -> Any:
    """The value of a key such as `model.path`."""
    return functools.reduce(getattr, key.split("."), run)


def _check_template(template: str, span: str) -> None:
    count, needed = template.count("{sentence}"), 2 if span == "second" else 1
    if count < needed or (span == "second" and count > 2):
        raise UserError(
            f"prompt.template={template} holds {{sentence}} {count} times: valid with prompt.span={span} is "
            f"{'exactly 2' if span == 'second' else '1 or more'}"
        )
