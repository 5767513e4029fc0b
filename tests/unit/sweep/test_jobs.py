"""Which jobs a multirun has, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.errors import UserError
from rwkv_sweep.sweep.jobs import (
    _overrides,
    compose_jobs,
    compose_once,
    job_overrides,
    load_seldom,
    require_values,
    run_only,
    swept_keys,
)


@pytest.fixture
def hydra() -> Iterator[Hydra]:
    register_schemas()
    GlobalHydra.instance().clear()
    yield Hydra.create_main_hydra2("rwkv_sweep", create_config_search_path(str(conf_dir())))
    GlobalHydra.instance().clear()


def multirun(hydra: Hydra, *overrides: str) -> DictConfig:
    return hydra.compose_config("config", list(overrides), RunMode.MULTIRUN, with_log_configuration=False)


def test_jobs_are_those_of_hydras_sweeper(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=1,[2,3]", "precision=fp16,int8", "bootstrap=50")
    jobs = compose_jobs(config)
    assert swept_keys(config) == ["layer", "precision"]
    assert [(job.layer, job.precision.name) for job in jobs] == [
        (1, "fp16"),
        (1, "int8"),
        ([2, 3], "fp16"),
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


def test_jobs_with_the_same_model_follow_each_other(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=1,5", "precision=fp16,int8", "bootstrap=50")
    before = {(job.layer, job.precision.name) for job in compose_jobs(config)}
    load_seldom(config)
    jobs = [(job.layer, job.precision.name) for job in compose_jobs(config)]
    assert jobs == [(1, "fp16"), (5, "fp16"), (1, "int8"), (5, "int8")] and set(jobs) == before
    assert {job.bootstrap for job in compose_jobs(config)} == {50}


def test_a_presets_parameters_are_ordered_too(hydra: Hydra) -> None:
    config = multirun(hydra, "precision=fp16,int8", "layer=5,7")
    config.hydra.sweeper.params = {"layer": "0,4,6", "pooling": "mean,last"}
    load_seldom(config)
    jobs = [(job.precision.name, job.layer, job.pooling.name) for job in compose_jobs(config)]
    assert jobs[:3] == [("fp16", 5, "mean"), ("fp16", 5, "last"), ("fp16", 7, "mean")] and len(jobs) == 8


def test_other_sweepers_keep_their_order(hydra: Hydra) -> None:
    config = multirun(hydra, "layer=1,5", "precision=fp16,int8")
    config.hydra.sweeper._target_ = "somewhere.OtherSweeper"
    load_seldom(config)
    assert list(config.hydra.overrides.task) == ["layer=1,5", "precision=fp16,int8"] and compose_jobs(config) == []


def test_the_sweeper_tries_only_jobs_that_were_not_composed(hydra: Hydra, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # Hydra's scan for plugins defines it anew

    # Set to what it is, so that it is put back.
    monkeypatch.setattr(BasicSweeper, "validate_batch_is_legal", BasicSweeper.validate_batch_is_legal)
    config, other = multirun(hydra, "layer=1,5", "bootstrap=50"), multirun(hydra, "layer=1,5", "bootstrap=50")
    sweeper = BasicSweeper(None)
    sweeper.hydra_context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
    jobs = [[f"layer={layer}", "bootstrap=50"] for layer in (1, 5, 9)]

    def tried(master: DictConfig) -> list[list[str]]:
        found: list[list[str]] = []
        monkeypatch.setattr(
            hydra.config_loader,
            "load_sweep_config",
            lambda master_config, sweep_overrides: found.append(sweep_overrides),
        )
        sweeper.config = master
        sweeper.validate_batch_is_legal(jobs)
        return found

    composed = compose_jobs(config)
    assert tried(config) == jobs
    compose_once(config, composed)
    assert tried(config) == jobs[2:] and tried(other) == jobs


@pytest.mark.parametrize("empty", ["layer=range(0,0)", "seed=range(5,5)", "model=glob(nothing*)"])
def test_a_key_swept_over_no_value_is_refused(hydra: Hydra, empty: str) -> None:
    with pytest.raises(UserError) as caught:
        require_values(multirun(hydra, empty, "bootstrap=50,60"))
    assert str(caught.value).startswith(f"{empty} names no value")
    require_values(multirun(hydra, "layer=range(0,1)", "bootstrap=50,60", "pooling=last"))


@pytest.mark.parametrize(("size", "batches"), [(None, [[0, 2, 3]]), (2, [[0, 2], [3]])])
def test_hydra_runs_only_the_jobs_that_are_kept(
    hydra: Hydra, size: int | None, batches: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    monkeypatch.setattr(BasicSweeper, "split_arguments", staticmethod(BasicSweeper.split_arguments))
    config, other = multirun(hydra, "layer=final,12,1,2"), multirun(hydra, "layer=5,6,7,8")
    jobs, overrides, others = job_overrides(config), _overrides(config), _overrides(other)
    run_only(config, [0, 1, 2, 3])
    assert BasicSweeper.split_arguments(overrides, None) == [jobs]
    run_only(config, [0, 2, 3])
    expected = [[jobs[number] for number in batch] for batch in batches]
    assert BasicSweeper.split_arguments(overrides, size) == expected
    unchanged = [job for batch in BasicSweeper.split_arguments(others, size) for job in batch]
    assert unchanged == [[f"layer={layer}"] for layer in (5, 6, 7, 8)]


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_the_launcher_is_handed_what_was_composed_once(
    hydra: Hydra, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    monkeypatch.setattr(BasicSweeper, "validate_batch_is_legal", BasicSweeper.validate_batch_is_legal)
    config, other = multirun(hydra, "layer=1,5"), multirun(hydra, "layer=1,5")
    if launcher == "joblib":
        config.hydra.launcher._target_ = "somewhere.JoblibLauncher"
    loader, jobs = hydra.config_loader, compose_jobs(config)
    compose_once(config, jobs)
    assert ("load_sweep_config" in vars(loader)) == (launcher == "basic")  # other launchers pickle it
    given = loader.load_sweep_config(config, ["layer=5"])
    assert (given is jobs[1]) == (launcher == "basic") and given.layer == 5
    # Handed over to keep: a second time, and for any other sweep or job, it is composed anew.
    for master, job in ((config, "layer=5"), (other, "layer=1"), (config, "layer=7")):
        anew = loader.load_sweep_config(master, [job])
        assert not any(anew is composed for composed in jobs) and anew.layer == int(job[-1])
