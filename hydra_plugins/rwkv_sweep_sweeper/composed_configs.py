"""A loader of configs that composes no job twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig


class ComposedConfigs(ConfigLoader):
    """Hydra's loader, which hands out once what is composed already; a composition takes a tenth of a second.

    A launcher that sends the loader to another process sends Hydra's own: the worker composes its job.

    Args:
        loader: composes all else.
        master: the config of the sweep that the jobs belong to.
        configs: the jobs' configs by their overrides.
    """

    def __init__(
        self, loader: ConfigLoader, master: DictConfig, configs: Sequence[tuple[Sequence[str], DictConfig]]
    ) -> None:
        self._loader = loader
        self._master = master
        self._configs = {tuple(overrides): config for overrides, config in configs}

    def __reduce__(self) -> tuple[Any, ...]:
        return _unwrapped, (self._loader,)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of a job. The launcher changes it, so that no config is handed out twice."""
        if master_config is self._master:
            config = self._configs.pop(tuple(sweep_overrides), None)
            if config is not None:
                return config
        return self._loader.load_sweep_config(master_config, sweep_overrides)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        return self._loader.load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides=validate_sweep_overrides
        )

    def get_search_path(self) -> ConfigSearchPath:
        return self._loader.get_search_path()

    def get_sources(self) -> list[ConfigSource]:
        return self._loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        return self._loader.list_groups(parent_name)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        return self._loader.get_group_options(group_name, results_filter, config_name, overrides)

    def compute_defaults_list(self, config_name: str | None, overrides: list[str], run_mode: RunMode) -> Any:
        return self._loader.compute_defaults_list(config_name, overrides, run_mode)


def _unwrapped(loader: ConfigLoader) -> ConfigLoader:
    """What a worker unpickles in place of `ComposedConfigs`."""
    return loader
