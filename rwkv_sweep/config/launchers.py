"""Hydra's launchers: where a sweep's jobs run, and what must be installed for it."""

from __future__ import annotations

from omegaconf import DictConfig

EXTRAS = {
    "joblib": "joblib",
    "submitit_local": "slurm",
    "submitit_slurm": "slurm",
    "ray": "ray",
}
"""Extra of this package that brings a plugin, by the launcher that the plugin registers."""

_ELSEWHERE = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher")
"""Launchers whose jobs run on other machines, or may."""


def missing_plugin(option: str) -> str | None:
    """The message for a launcher that Hydra does not know as its plugin is not installed; None for any other."""
    if option not in EXTRAS:
        return None
    return f"hydra/launcher={option} needs a plugin that is not installed: pip install 'rwkv-sweep[{EXTRAS[option]}]'"


def runs_here(config: DictConfig) -> bool:
    """Whether the jobs run on this very machine, so that its devices are theirs."""
    return not str(config.hydra.launcher._target_).endswith(_ELSEWHERE)
