"""Which jobs a multirun consists of, and what they are composed to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from rwkv_sweep.errors import UserError


@dataclass(frozen=True)
class PlannedJobs:
    """The jobs of a multirun that passed its checks, for a sweeper that runs these and composes none again.

    overrides: of each job to run, in their order. configs: what each was composed to, by its overrides.
    """

    overrides: list[list[str]]
    configs: list[tuple[list[str], DictConfig]]

    @classmethod
    def of(cls, config: DictConfig, composed: Sequence[DictConfig], kept: Sequence[int]) -> PlannedJobs | None:
        """The jobs that are kept, by their numbers; None where the sweeper chooses its jobs as it goes.

        Args:
            config: of the multirun.
            composed: what `compose_jobs` made of it.
        """
        jobs = job_overrides(config)
        if not jobs:
            return None
        return cls([jobs[number] for number in kept], [(jobs[number], composed[number]) for number in kept])


def swept_keys(config: DictConfig) -> list[str]:
    """The keys that take several values, in the order given."""
    keys = [_key(override).lstrip("+~") for override in _overrides(config) if override.is_sweep_override()]
    return list(dict.fromkeys(keys))


def compose_jobs(config: DictConfig) -> list[DictConfig]:
    """The configs of all jobs of a multirun, composed as Hydra will.

    Sweepers that choose their jobs as they go have none here, and only the common config can be checked.
    """
    loader = GlobalHydra.instance().config_loader()
    return [loader.load_sweep_config(config, job) for job in job_overrides(config)]


def require_values(config: DictConfig) -> None:
    """Raises UserError where a key is swept over no value at all, such as `layer=range(0,0)`."""
    for override in _overrides(config):
        discrete = override.is_sweep_override() and override.is_discrete_sweep()
        if discrete and next(iter(override.sweep_string_iterator()), None) is None:
            raise UserError(f"{override.input_line} names no value, so there is nothing to run: name at least one")


def job_overrides(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, in the sweeper's order; none of a sweeper that chooses its jobs as it goes."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # Hydra's scan for plugins defines it anew

    sweeper = _sweeper(config)
    if sweeper is None or not issubclass(sweeper, BasicSweeper):
        return []
    (batch,) = sweeper.split_arguments(_overrides(config), max_batch_size=None)
    return batch


def takes_planned_jobs(config: DictConfig) -> bool:
    """Whether the sweeper runs the planned jobs alone; another one runs a job even where it repeats another."""
    return bool(getattr(_sweeper(config), "takes_planned_jobs", False))


def quoted(text: str) -> str:
    """`text` as a value of an override, with nothing in it that Hydra's grammar would read.

    Hydra reads a backslash as one, unless it stands before a quote: those before a quote, and at the end, are doubled.
    """
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", "\\'"), text) + "'"


def _overrides(config: DictConfig) -> list[Override]:
    """Those of the preset first, then those of the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return list(parser.parse_overrides(params + list(config.hydra.overrides.task)))


def _sweeper(config: DictConfig) -> Any:
    """The class of the sweeper; None where Hydra knows none of that name, which Hydra then reports."""
    return Plugins.instance().class_name_to_class.get(str(config.hydra.sweeper._target_))


def _key(override: Override) -> str:
    return str(override.get_key_element())
