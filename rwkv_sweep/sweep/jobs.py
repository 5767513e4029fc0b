"""Which jobs a multirun consists of, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict

from rwkv_sweep.errors import UserError

COSTLY = ("device", "model", "precision", "prompt", "dataset")
"""Groups whose change means another model in memory, or another forward pass over the sentences."""


def load_seldom(config: DictConfig) -> None:
    """Reorder the sweep so that jobs with the same model, precision and data follow each other.

    Hydra's basic sweeper lets the last key vary fastest, so that `layer=1,3 precision=fp16,int8` would load a model for
    each job. The jobs stay the same; only their order and so their numbers change. Other sweepers keep theirs.
    """
    if not _is_basic(config):
        return
    ordered = dict(zip(map(_key, overrides := _overrides(config)), overrides, strict=True))  # a later one wins
    by_cost = sorted(ordered.values(), key=_cost)
    with open_dict(config.hydra):
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.overrides.task = [override.input_line for override in by_cost]
        config.hydra.sweeper.params = {}


def swept_keys(config: DictConfig) -> list[str]:
    """The keys that take several values, in the order given."""
    found = [_key(override).lstrip("+~") for override in _overrides(config) if override.is_sweep_override()]
    return list(dict.fromkeys(found))


def compose_jobs(config: DictConfig) -> list[DictConfig]:
    """The configs of all jobs of a multirun, composed as Hydra's basic sweeper will.

    Other sweepers choose their jobs as they go: for them there are none, and only the common config can be checked.
    """
    loader = GlobalHydra.instance().config_loader()
    return [loader.load_sweep_config(config, job) for job in job_overrides(config)]


def require_values(config: DictConfig) -> None:
    """Raises UserError where a key is swept over no value at all, such as `layer=range(0,0)`."""
    for override in _overrides(config):
        discrete = override.is_sweep_override() and override.is_discrete_sweep()
        if discrete and next(iter(override.sweep_string_iterator()), None) is None:
            raise UserError(f"{override.input_line} names no value, so there is nothing to run: name at least one")


def run_only(config: DictConfig, kept: Sequence[int]) -> None:
    """Have Hydra's basic sweeper run these of the jobs of this very config alone, by their numbers."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    jobs, split = job_overrides(config), BasicSweeper.split_arguments
    if len(kept) == len(jobs):
        return

    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        if split(overrides, None) != [jobs]:
            return split(overrides, max_batch_size)
        return list(BasicSweeper.split_overrides_to_chunks([jobs[number] for number in kept], max_batch_size))

    BasicSweeper.split_arguments = staticmethod(split_arguments)  # type: ignore[method-assign]


def compose_once(config: DictConfig, composed: Sequence[DictConfig]) -> None:
    """Have Hydra take what `compose_jobs` made of this very config, where it would compose the same jobs anew.

    Its basic sweeper composes each job on trial and forgets the outcome, and its basic launcher composes it again: a
    tenth of a second each time. Jobs that are not among those, other sweeps and other launchers do as ever.
    """
    if not _is_basic(config):
        return
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    jobs = [tuple(job) for job in job_overrides(config)]

    def validate(sweeper: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        known = set(jobs) if sweeper.config is config else set()
        Sweeper.validate_batch_is_legal(sweeper, [job for job in batch if tuple(job) not in known])

    BasicSweeper.validate_batch_is_legal = validate  # type: ignore[method-assign, assignment]
    if not str(config.hydra.launcher._target_).endswith("BasicLauncher"):
        return  # others send the loader to their workers
    loader = GlobalHydra.instance().config_loader()
    compose, waiting = loader.load_sweep_config, dict(zip(jobs, composed, strict=True))

    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        found = waiting.pop(tuple(sweep_overrides), None) if master_config is config else None
        return compose(master_config, sweep_overrides) if found is None else found

    loader.load_sweep_config = load_sweep_config  # type: ignore[method-assign]


def job_overrides(config: DictConfig) -> list[list[str]]:
    """The overrides of each job; none of another sweeper."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if not _is_basic(config):
        return []
    (batch,) = BasicSweeper.split_arguments(_overrides(config), max_batch_size=None)
    return batch


def quoted(text: str) -> str:
    """`text` as a value of an override, with nothing in it that Hydra's grammar would read.

    Hydra reads a backslash as one, unless it stands before a quote: those before a quote, and at the end, are doubled.
    """
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text) + "'"


def _overrides(config: DictConfig) -> list[Override]:
    """Those of the preset first, then those of the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return list(parser.parse_overrides(params + list(config.hydra.overrides.task)))


def _is_basic(config: DictConfig) -> bool:
    return str(config.hydra.sweeper._target_).endswith("BasicSweeper")


def _key(override: Override) -> str:
    return str(override.get_key_element())


def _cost(override: Override) -> int:
    """Place of the key's group in `COSTLY`; behind them all where it costs nothing to change."""
    group = _key(override).lstrip("+~").split(".")[0].split("@")[0]
    return COSTLY.index(group) if group in COSTLY else len(COSTLY)
