"""What Hydra composes a run from: the folder `conf/`, and the schema that its keys are checked against."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore

from rwkv_sweep.config.launchers import register_resolvers
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.utils.package_paths import PACKAGE


def register_schemas() -> None:
    """Make the schema of a run known to Hydra; `conf/config.yaml` names it before all groups.

    It types them too: what an option puts into `model` must fit `ModelConfig`. A schema in each group would show as an
    option there.
    """
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    register_resolvers()


def share_config_store() -> None:
    """Keep Hydra from copying its store of schemas for each composition and each group that `--help` lists.

    The store copies whatever it gives out, so that nobody can change its content; to copy it whole besides took half
    the time of `--help`. For a process that is this program's own: one that uses Hydra itself keeps Hydra as it is.
    """
    # A change of Hydra's class, as Hydra 1.3 offers no other way: its loader deep-copies its repository of configs, and
    # with it the source of schemas, for each group it lists. Without this line all works, only slower.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def conf_dir() -> Path:
    """The folder of the YAML files: beside the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"
