"""A composed config made typed, and checked for everything that needs no file, model or device."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rwkv_sweep.config import (
    AGGREGATIONS,
    BASELINES,
    BASES,
    NORMALIZATIONS,
    ON_ERROR,
    POOLINGS,
    POSTPROCESSES,
    QUANTIZATIONS,
    REPORTS,
    SPANS,
    WORD_SPLITS,
    RunConfig,
    require_one_of,
)
from rwkv_sweep.errors import UserError


def run_config(cfg: DictConfig) -> RunConfig:
    """The typed form of a composed config, without Hydra's own node, checked for what needs no file.

    Raises:
        UserError: a key that must be given is missing, or a value is not among the valid ones.
    """
    try:
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        # As plain values: a group's node takes its own extra keys (+model.foo=1) along, past the schema.
        values = OmegaConf.to_container(own, resolve=True)
        run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), values))
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    assert isinstance(run, RunConfig)
    _check(run)
    return run


def _check(run: RunConfig) -> None:
    require_one_of("pooling.name", run.pooling.name, POOLINGS)
    require_one_of("aggregation.name", run.aggregation.name, AGGREGATIONS)
    require_one_of("aggregation.normalize", run.aggregation.normalize, NORMALIZATIONS)
    require_one_of("postprocess.name", run.postprocess.name, POSTPROCESSES)
    require_one_of("prompt.span", run.prompt.span, SPANS)
    if run.report is not None:
        require_one_of("report", run.report, REPORTS)
    _check_template(run.prompt.template, run.prompt.span)
    require_one_of("device.type", run.device.type, ("auto", "cpu", "cuda"))
    require_one_of("precision.base", run.precision.base, BASES)
    require_one_of("precision.quantization", run.precision.quantization, QUANTIZATIONS)
    require_one_of("model.source", run.model.source, ("assets", "hub", "local", "random", "hf"))
    require_one_of("dataset.source", run.dataset.source, ("assets", "hub", "file"))
    require_one_of("dataset.word_split", run.dataset.word_split, WORD_SPLITS)
    require_one_of("on_error", run.on_error, ON_ERROR)
    if run.timeout_s is not None and not (run.isolate and run.timeout_s > 0):
        raise UserError(
            f"timeout_s={run.timeout_s:g} isolate={str(run.isolate).lower()}: valid is a number of seconds above 0 "
            "with isolate=true, as only a process of its own can be ended in time"
        )
    for name in run.baselines:
        require_one_of("baselines", name, BASELINES)
    for key, value, least in (
        ("model.rescale_every", run.model.rescale_every, 0),
        ("max_tokens", run.max_tokens, 1),
        ("batch_tokens", run.batch_tokens, 1),
        ("bootstrap", run.bootstrap, 1),
        ("measure.latency_pairs", run.measure.latency_pairs, 0),
        ("measure.warmup_pairs", run.measure.warmup_pairs, 0),
        ("measure.overhead_pairs", run.measure.overhead_pairs, 1),
        ("measure.overhead_batches", run.measure.overhead_batches, 1),
        ("measure.speedup_rounds", run.measure.speedup_rounds, 0),
        ("measure.energy_seconds", run.measure.energy_seconds, 0),
        ("postprocess.components", run.postprocess.components, 1),
        ("device.index", run.device.index if run.device.index is not None else 0, 0),
        ("device.threads", run.device.threads if run.device.threads is not None else 1, 1),
    ):
        if value < least:
            raise UserError(f"{key}={value} is too small: valid is {least} or more")
    if not run.dataset.splits:
        raise UserError("dataset.splits=[] is empty: name at least one split, such as [validation]")


def _check_template(template: str, span: str) -> None:
    found, needed = template.count("{sentence}"), 2 if span == "second" else 1
    if found < needed or (span == "second" and found > 2):
        raise UserError(
            f"prompt.template={template} holds {{sentence}} {found} times: valid with prompt.span={span} is "
            f"{'exactly 2' if span == 'second' else '1 or more'}"
        )
