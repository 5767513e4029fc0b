"""The sweeper: the order of its jobs, what it leaves out, and that it composes none twice."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.sweep.jobs import PlannedJobs, compose_jobs, job_overrides

BY_MODEL = "hydra_plugins.rwkv_sweep_sweeper.by_model.ByModelSweeper"


class Launcher:
    """In place of Hydra's: composes each job as they do, and runs none."""

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self.context, self.config = context, config
        self.batches: list[tuple[int, list[list[str]]]] = []
        self.configs: list[DictConfig] = []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        self.batches.append((initial_job_idx, [list(job) for job in jobs]))
        loader = self.context.config_loader
        self.configs += [loader.load_sweep_config(self.config, list(job)) for job in jobs]
        return []


class Planner:
    """A callback that has planned the jobs."""

    def __init__(self, planned: PlannedJobs | None) -> None:
        self.planned_jobs = planned


@pytest.fixture
def hydra() -> Iterator[Hydra]:
    register_schemas()
    GlobalHydra.instance().clear()
    yield Hydra.create_main_hydra2("rwkv_sweep", create_config_search_path(str(conf_dir())))
    GlobalHydra.instance().clear()


def multirun(hydra: Hydra, folder: Path, *overrides: str) -> DictConfig:
    config = hydra.compose_config(
        "config", [*overrides, f"hydra.sweep.dir={folder}"], RunMode.MULTIRUN, with_log_configuration=False
    )
    assert isinstance(config, DictConfig)
    return config


def swept(
    hydra: Hydra, config: DictConfig, planned: PlannedJobs | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[Launcher, list[list[str]]]:
    """The launcher after a sweep, and the overrides that Hydra's own loader composed for it."""
    composed: list[list[str]] = []
    original = hydra.config_loader.load_sweep_config

    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        composed.append(sweep_overrides)
        return original(master_config, sweep_overrides)

    monkeypatch.setattr(hydra.config_loader, "load_sweep_config", load_sweep_config)
    monkeypatch.setattr(
        Plugins,
        "instantiate_launcher",
        lambda self, hydra_context, task_function, config: Launcher(hydra_context, config),
    )
    callbacks = Callbacks()
    callbacks.callbacks = [object(), Planner(planned)]
    sweeper: Any = Plugins.instance().instantiate_sweeper(
        hydra_context=HydraContext(hydra.config_loader, callbacks), task_function=lambda _: None, config=config
    )
    sweeper.sweep(list(config.hydra.overrides.task))
    return sweeper.launcher, composed


def test_the_default_sweeper_is_the_plugins(hydra: Hydra, tmp_path: Path) -> None:
    assert multirun(hydra, tmp_path).hydra.sweeper._target_ == BY_MODEL
    assert BY_MODEL in Plugins.instance().class_name_to_class


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["layer=1,5", "precision=fp16,int8"], ["fp16 1", "fp16 5", "int8 1", "int8 5"]),
        (["precision=fp16,int8", "layer=1,5"], ["fp16 1", "fp16 5", "int8 1", "int8 5"]),
        (["precision=fp16,int8", "hydra/sweeper=basic", "layer=1,5"], ["fp16 1", "fp16 5", "int8 1", "int8 5"]),
        (["layer=1,5", "hydra/sweeper=basic", "precision=fp16,int8"], ["fp16 1", "int8 1", "fp16 5", "int8 5"]),
        (["layer=1,5", "precision=fp16", "precision=int8"], ["int8 1", "int8 5"]),
        (["layer=1,5", "seed=1,2"], ["fp32 1", "fp32 1", "fp32 5", "fp32 5"]),
    ],
)
def test_order_of_the_jobs(
    hydra: Hydra, tmp_path: Path, overrides: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = multirun(hydra, tmp_path, *overrides)
    launcher, _ = swept(hydra, config, None, monkeypatch)
    assert [f"{job.precision.name} {job.layer}" for job in launcher.configs] == expected
    assert launcher.batches == [(0, job_overrides(config))]
    assert (tmp_path / "multirun.yaml").is_file()


@pytest.mark.parametrize("group", ["device", "model", "precision", "prompt", "dataset"])
def test_costly_groups_vary_slowest(hydra: Hydra, tmp_path: Path, group: str) -> None:
    values = {
        "device": "cpu,auto",
        "model": "tiny,random",
        "precision": "fp16,int8",
        "prompt": "echo,none",
        "dataset": "sick,stsb",
    }[group].split(",")
    config = multirun(hydra, tmp_path, "layer=0,1", f"{group}={','.join(values)}")
    assert [job[0] for job in job_overrides(config)] == [f"{group}={value}" for value in values for _ in range(2)]


@pytest.mark.parametrize(
    ("key", "before"),
    [("model.seed", True), ("device.threads", True), ("+dataset.limit", False), ("layer", False), ("seed", False)],
)
def test_keys_of_a_group_go_with_it(hydra: Hydra, key: str, before: bool) -> None:
    """A key of a group that is costlier than `precision` varies before it, any other after it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from hydra_plugins.rwkv_sweep_sweeper.by_model import ByModelSweeper

    overrides = OverridesParser.create().parse_overrides([f"{key}=1,2", "precision=fp16,int8"])
    (jobs,) = ByModelSweeper.split_arguments(overrides, None)
    slowest = key if before else "precision"
    assert [job[0].partition("=")[0] for job in jobs] == [slowest] * 4


@pytest.mark.parametrize("size", [None, 1, 2, 5])
def test_planned_jobs_alone_are_run_and_none_is_composed_again(
    hydra: Hydra, tmp_path: Path, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_size = [] if size is None else [f"hydra.sweeper.max_batch_size={size}"]
    config = multirun(hydra, tmp_path, "layer=final,12,1,2", "bootstrap=50", *batch_size)
    jobs, configs, kept = job_overrides(config), compose_jobs(config), [0, 2, 3]
    launcher, composed = swept(hydra, config, PlannedJobs.of(config, configs, kept), monkeypatch)
    assert composed == []
    assert [job for _, batch in launcher.batches for job in batch] == [jobs[number] for number in kept]
    assert [first for first, _ in launcher.batches] == list(range(0, 3, size or 3))
    assert all(given is configs[number] for given, number in zip(launcher.configs, kept, strict=True))


def test_without_a_plan_each_job_is_tried_and_composed_as_hydra_does(
    hydra: Hydra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = multirun(hydra, tmp_path, "layer=1,5")
    _, composed = swept(hydra, config, None, monkeypatch)
    assert composed == job_overrides(config) * 2


def test_a_config_is_handed_out_once_and_to_its_own_sweep_alone(hydra: Hydra, tmp_path: Path) -> None:
    from hydra_plugins.rwkv_sweep_sweeper.composed_configs import ComposedConfigs

    config, other = multirun(hydra, tmp_path, "layer=1,5"), multirun(hydra, tmp_path, "layer=1,5")
    planned = PlannedJobs.of(config, compose_jobs(config), [0, 1])
    assert planned is not None
    loader = ComposedConfigs(hydra.config_loader, config, planned.configs)
    known = [composed for _, composed in planned.configs]
    assert loader.load_sweep_config(config, ["layer=5"]) is known[1]
    # A second time, and for any other sweep or job, it is composed anew.
    for master, job in ((config, "layer=5"), (other, "layer=1"), (config, "layer=7")):
        anew = loader.load_sweep_config(master, [job])
        assert not any(anew is composed for composed in known) and anew.layer == int(job[-1])
    assert loader.list_groups("hydra") == hydra.config_loader.list_groups("hydra")
    assert loader.get_group_options("pooling") == hydra.config_loader.get_group_options("pooling")
    assert loader.get_search_path() is hydra.config_loader.get_search_path()


def test_a_worker_is_sent_hydras_own_loader(hydra: Hydra, tmp_path: Path) -> None:
    from hydra_plugins.rwkv_sweep_sweeper.composed_configs import ComposedConfigs

    config = multirun(hydra, tmp_path, "layer=1,5")
    planned = PlannedJobs.of(config, compose_jobs(config), [0, 1])
    assert planned is not None
    received = pickle.loads(pickle.dumps(ComposedConfigs(hydra.config_loader, config, planned.configs)))
    assert type(received) is type(hydra.config_loader)
    assert received.load_sweep_config(config, ["layer=5"]).layer == 5
