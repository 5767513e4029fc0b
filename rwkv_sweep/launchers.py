"""Hydra's launchers: where a sweep's jobs run, and what must be installed for it."""

from __future__ import annotations

from importlib.util import find_spec

from omegaconf import DictConfig

from rwkv_sweep.errors import UserError

EXTRAS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_submitit_launcher": "submitit",
    "hydra_ray_launcher": "ray",
}
"""Extra of this package by the plugin it brings."""

_ELSEWHERE = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher")
"""Launchers whose jobs run on other machines, or may."""


def check_launcher(config: DictConfig) -> None:
    """Raises UserError, naming what to install, if the launcher's plugin is not there."""
    target = str(config.hydra.launcher._target_)
    package = target.split(".")[1] if target.startswith("hydra_plugins.") else None
    if package is None or (find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{package}")):
        return
    name = config.hydra.runtime.choices.get("hydra/launcher")
    install = f"pip install 'rwkv-sweep[{EXTRAS[package]}]'" if package in EXTRAS else f"install {package}"
    raise UserError(f"hydra/launcher={name} needs a plugin that is not installed: {install}")


def runs_here(config: DictConfig) -> bool:
    """Whether the jobs run on this very machine, so that its devices are theirs."""
    return not str(config.hydra.launcher._target_).endswith(_ELSEWHERE)
