"""Overrides as on the command line, to the config of one run."""

from __future__ import annotations

import re
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from rwkv_sweep.config.error_messages import is_bad_input, one_line
from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.errors import UserError

EXAMPLE = 'Encoder.from_config("layer=[3,5]", "aggregation=mean")'
_SEVERAL = re.compile(r"Ambiguous value for argument '(?P<key>[^=']+)=(?P<values>[^']*)'")


def composed(overrides: tuple[Any, ...]) -> RunConfig:
    """The config of a run with these overrides; a program that uses Hydra itself keeps its own state.

    Raises:
        TypeError: an override that is no text.
        UserError: what the command line would refuse, in one line.
    """
    for override in overrides:
        if isinstance(override, (list, tuple)):
            raise TypeError(
                f"from_config takes each override as an argument of its own, {EXAMPLE}: put a * before a list"
            )
        if not isinstance(override, str):
            raise TypeError(f"from_config takes overrides as text, {EXAMPLE}, not {override!r}")
    register_schemas()
    state, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(version_base=None, config_dir=str(conf_dir()), job_name="rwkv_sweep"):
            return run_config(compose("config", list(overrides)))
    except Exception as error:
        if not is_bad_input(error):
            raise
        raise UserError(_told(error)) from error
    finally:
        GlobalHydra.instance().hydra = state


def _told(error: Exception) -> str:
    if several := _SEVERAL.search(str(error)):
        key, values = several["key"], several["values"]
        return (
            f"{key}={values} is a sweep of several values, and an encoder has one: valid is a value, or where the key "
            f"takes one a list, {key}=[{values}]"
        )
    return one_line(error)
