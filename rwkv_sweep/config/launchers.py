"""Hydra's launchers: where a sweep's jobs run, and what must be installed for it."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

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


def parallel_jobs(device: str, index: int | None) -> int:
    """Jobs that `hydra/launcher=parallel` runs at the same time: one on each GPU. -1, as many as there are CPUs, where
    the jobs run on the CPU or on one GPU that is named and may thus be shared.

    Args:
        device: `device.type`. index: `device.index`.
    """
    if device == "cpu" or index is not None:
        return -1
    import torch  # the config alone must be composed without it

    return torch.cuda.device_count() or -1


def register_resolvers() -> None:
    """Make `${parallel_jobs:TYPE,INDEX}` known to the configs."""
    OmegaConf.register_new_resolver("parallel_jobs", parallel_jobs, replace=True)
