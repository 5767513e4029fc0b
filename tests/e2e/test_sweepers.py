"""Sweepers of Hydra in place of the default one: the same runs in another order, or jobs chosen during the sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.e2e.finished import Command, Sweep, without
from tests.search_path import search_path

SWEPT = ["layer=1,final,12", "precision=fp32,bf16"]
ORDERS = {
    "by_model": ["fp32 1", "fp32 final", "bf16 1", "bf16 final"],
    "basic": ["fp32 1", "bf16 1", "fp32 final", "bf16 final", "fp32 final", "bf16 final"],
}

CHOOSES_AS_IT_GOES = '''
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="deeper",
    node={"_target_": "hydra_plugins.deeper_sweeper.deeper.DeeperSweeper"},
)


class DeeperSweeper(Sweeper):
    """One block more each time; prints what each job returned."""

    def setup(self, *, hydra_context, task_function, config):
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        for number in range(2):
            (result,) = self.launcher.launch([[*arguments, f"layer={number}"]], initial_job_idx=number)
            print(f"returned {result.return_value}")
'''


@pytest.mark.parametrize("sweeper", ORDERS)
def test_order_of_the_runs(
    command: Command, job: list[str], quality_only: list[str], tmp_path: Path, sweeper: str
) -> None:
    """Hydra's own sweeper runs a job even where it repeats another."""
    arguments = [*without(job, SWEPT), *quality_only, *SWEPT, f"hydra/sweeper={sweeper}", "hydra.sweep.dir=sweep"]
    done = command(["-m", *arguments], tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted((tmp_path / "sweep").glob("[0-9]*"), key=lambda folder: int(folder.name))
    records = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert [f"{record['params']['precision']} {record['params']['layer']}" for record in records] == ORDERS[sweeper]
    assert ("2 of 6 runs are left out" in done.stderr) == (sweeper == "by_model")
    scores = {record["name"]: record["metrics"]["quality/spearman"] for record in records}
    assert len(set(scores.values())) > 1

    again = command(["-m", *arguments, "resume=true"], tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("finished before, not run again") == len(records)


def test_a_sweeper_that_chooses_its_jobs_as_it_goes(
    started: Command, job: list[str], quality_only: list[str], repo_root: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "search" / "hydra_plugins" / "deeper_sweeper"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").touch()
    (plugin / "deeper.py").write_text(CHOOSES_AS_IT_GOES)
    arguments = [*without(job, ["layer="]), *quality_only, "hydra/sweeper=deeper"]
    done = started(["-m", *arguments], tmp_path / "work", PYTHONPATH=search_path(repo_root, tmp_path / "search"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("runs: checking model, data and device\n")
    results = Sweep(done, tmp_path / "work").results()
    runs = sorted((result for result in results.values()), key=lambda result: int(result["params"]["layer"]))
    assert [result["params"]["layer"] for result in runs] == ["0", "1"]
    returned = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("returned ")]
    assert returned == [result["metrics"]["quality/spearman"] for result in runs]


def test_an_unknown_sweeper_is_refused(command: Command, tmp_path: Path) -> None:
    done = command(["-m", "layer=0,1", "hydra/sweeper=by_modell"], tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: hydra/sweeper=by_modell is not known: valid are basic, by_model\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_optuna_with_two_objectives(started: Command, job: list[str], repo_root: Path, tmp_path: Path) -> None:
    """Each trial is a run of its own; what no other beats in quality and time is the solution."""
    plugin = pytest.importorskip(
        "hydra_plugins.hydra_optuna_sweeper.config", reason="needs pip install 'rwkv-sweep[optuna]'"
    )
    small = ["hydra.sweeper.n_trials=3", "measure.throughput=false", "hydra.sweep.dir=sweep", "tracking.enabled=false"]
    arguments = [*without(job, ["layer="]), *small, "hydra/sweeper=optuna", "+experiment=optuna"]
    where = search_path(repo_root, Path(plugin.__file__).parents[2])
    done = started(arguments, tmp_path / "work", PYTHONPATH=where)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "work" / "sweep"
    records = [json.loads(path.read_text())["metrics"] for path in sweep.glob("[0-9]*/result.json")]
    both = [(metrics["quality/spearman"], metrics["latency/mean_ms"]) for metrics in records]
    assert len(both) == 3
    solutions = OmegaConf.load(sweep / "optimization_results.yaml").solutions
    beaten = {one for one in both if any(a[0] >= one[0] and a[1] <= one[1] and a != one for a in both)}
    assert sorted(tuple(one["values"]) for one in solutions) == sorted(set(both) - beaten)
