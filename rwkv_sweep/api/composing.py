"""Overrides as on the command line, to the config of one run."""

from __future__ import annotations

import re
from collections.abc import Mapping
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


def composed(overrides: tuple[Any, ...], unknown: Mapping[str, Any]) -> RunConfig:
    """The config of a run with these overrides; a program that uses Hydra itself keeps its own state.

    Args:
        unknown: keyword arguments that were given in place of overrides.

    Raises:
        TypeError: an override that is no text.
        UserError: what the command line would refuse, in one line.
    """
    for name, value in unknown.items():
        raise TypeError(f'from_config takes overrides as text: write "{name}={value}" for {name}={value!r}')
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
            run = run_config(compose("config", list(overrides)))
    except Exception as error:
        if not is_bad_input(error):
            raise
        raise UserError(_in_one_line(error)) from error
    finally:
        GlobalHydra.instance().hydra = state
    return run


def with_float32_output(run: RunConfig) -> RunConfig:
    """The config itself.

    Raises:
        UserError: an encoder that is not of a run is asked for another output format than float32.
    """
    if run.output != "float32":
        raise UserError(
            f"output={run.output}: an encoder gives float32 vectors; smaller ones come from "
            "encode(texts, precision=..., truncate_dim=...)"
        )
    return run


def mteb_meta(config: RunConfig, revision: str) -> Any:
    """What `mteb` files results under; needs `mteb`. revision: the model's fingerprint."""
    from mteb.models import ModelMeta

    name = f"rwkv_sweep/{config.model.name}-layer-{str(config.layer).replace(' ', '')}"
    return ModelMeta.create_empty({"name": name, "revision": revision})


def described(config: RunConfig, layers: str, device: object, dimension: int) -> str:
    """What sets an encoder of this config apart, for its `repr`."""
    parts = {"model": config.model.name, "layer": layers}
    for group in ("pooling", "aggregation", "postprocess", "prompt", "precision"):
        name = getattr(config, group).name
        if name != "none":
            parts[group] = name
    parts |= {"device": str(device), "dimension": str(dimension)}
    return ", ".join(f"{key}={value}" for key, value in parts.items())


def _in_one_line(error: Exception) -> str:
    if several := _SEVERAL.search(str(error)):
        key, values = several["key"], several["values"]
        return (
            f"{key}={values} is a sweep of several values, and an encoder has one: valid is a value, or where the key "
            f"takes one a list, {key}=[{values}]"
        )
    return one_line(error)
