"""Which jobs a multirun has, in the order of its sweeper."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.errors import UserError
from rwkv_sweep.sweep.jobs import (
    PlannedJobs,
    compose_jobs,
    job_overrides,
    require_values,
    swept_keys,
    takes_planned_jobs,
)


@pytest.fixture
def hydra() -> Iterator[Hydra]:
    register_schemas()
    GlobalHydra.instance().clear()
    yield Hydra.create_main_hydra2("rwkv_sweep", create_config_search_path(str(conf_dir())))
    GlobalHydra.instance().clear()


def multirun(hydra: Hydra, *overrides: str) -> DictConfig:
    return hydra.compose_config("config", list(overrides), RunMode.MULTIRUN, with_log_configuration=False)


def test_jobs_are_those_of_the_sweeper(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=1,[2,3]", "precision=fp16,int8", "bootstrap=50")
    jobs = compose_jobs(config)
    assert swept_keys(config) == ["layer", "precision"]
    assert [(job.layer, job.precision.name) for job in jobs] == [
        (1, "fp16"),
        ([2, 3], "fp16"),
        (1, "int8"),
        ([2, 3], "int8"),
    ]
    assert {job.bootstrap for job in jobs} == {50}


def test_sweeper_params_sweep_too_until_the_command_line_narrows_them(hydra: Hydra) -> None:
    config = multirun(hydra, "pooling=mean,last")
    config.hydra.sweeper.params = {"layer": "0,4,6"}  # as a preset has them
    jobs = compose_jobs(config)
    assert swept_keys(config) == ["layer", "pooling"]
    assert [(job.layer, job.pooling.name) for job in jobs][:3] == [(0, "mean"), (0, "last"), (4, "mean")]
    assert len(jobs) == 6

    config = multirun(hydra, "layer=5,7")
    config.hydra.sweeper.params = {"layer": "0,4,6"}
    assert [job.layer for job in compose_jobs(config)] == [5, 7]


def test_multirun_of_one_value_has_one_job(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=5")
    assert [job.layer for job in compose_jobs(config)] == [5] and swept_keys(config) == []


def test_a_presets_parameters_are_ordered_too(hydra: Hydra) -> None:
    config = multirun(hydra, "precision=fp16,int8", "layer=5,7")
    config.hydra.sweeper.params = {"layer": "0,4,6", "pooling": "mean,last"}
    jobs = [(job.precision.name, job.layer, job.pooling.name) for job in compose_jobs(config)]
    assert jobs[:3] == [("fp16", 5, "mean"), ("fp16", 5, "last"), ("fp16", 7, "mean")] and len(jobs) == 8


def test_jobs_of_hydras_own_sweeper_are_known_in_its_order(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=1,5", "precision=fp16,int8", "hydra/sweeper=basic")
    jobs = [(job.layer, job.precision.name) for job in compose_jobs(config)]
    assert jobs == [(1, "fp16"), (1, "int8"), (5, "fp16"), (5, "int8")]
    assert not takes_planned_jobs(config)


def test_a_sweeper_that_chooses_as_it_goes_has_no_jobs_beforehand(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=1,5", "precision=fp16,int8")
    assert takes_planned_jobs(config)
    config.hydra.sweeper._target_ = "hydra_plugins.somewhere.OtherSweeper"
    assert compose_jobs(config) == [] and PlannedJobs.of(config, [], []) is None
    assert not takes_planned_jobs(config) and swept_keys(config) == ["layer", "precision"]


def test_the_plan_holds_the_kept_jobs_with_their_configs(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=final,12,1")
    jobs, configs = job_overrides(config), compose_jobs(config)
    planned = PlannedJobs.of(config, configs, [0, 2])
    assert planned is not None and planned.overrides == [jobs[0], jobs[2]]
    assert [overrides for overrides, _ in planned.configs] == planned.overrides
    assert planned.configs[1][1] is configs[2]


@pytest.mark.parametrize("empty", ["layer=range(0,0)", "seed=range(5,5)", "model=glob(nothing*)"])
def test_a_key_swept_over_no_value_is_refused(hydra: Hydra, empty: str) -> None:
    with pytest.raises(UserError) as caught:
        require_values(multirun(hydra, empty, "bootstrap=50,60"))
    assert str(caught.value).startswith(f"{empty} names no value")
    require_values(multirun(hydra, "layer=range(0,1)", "bootstrap=50,60", "pooling=last"))
