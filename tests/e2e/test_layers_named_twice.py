"""One layer by several names is one run, in the table, in MLflow and in the family of comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.finished import Command, Sweep, without

SWEPT = {
    "several names": (["layer=final,-1,12,3"], ["layer=final", "layer=3"], "layer=-1 is layer=final, layer=12 is "),
    "one name": (
        ["layer=3,3,5"],
        ["layer=3", "layer=5"],
        "1 of 3 runs are left out, as others are the same: layer=3 ag",
    ),
    "lists": (
        ["layer=[3,5],[3,first2],[0,1,3],[3,0,1]", "aggregation=concat"],
        ["layer=[3,5]", "layer=[3,first2]", "layer=[0,1,3]"],
        "1 of 4 runs are left out, as others are the same: layer=[3,0,1] is layer=[3,first2]",
    ),
}


@pytest.mark.parametrize("name", SWEPT)
def test_one_layer_is_one_run(
    command: Command, job: list[str], quality_only: list[str], tmp_path: Path, name: str
) -> None:
    swept, runs, wording = SWEPT[name]
    done = command(["-m", *without(job, swept), *quality_only, *swept], tmp_path)
    assert done.returncode == 0 and wording in done.stderr
    sweep = Sweep(done, tmp_path)
    models = [name for name, result in sweep.results().items() if result["kind"] == "model"]
    assert sorted(models) == sorted(runs)
    assert sorted(run.info.run_name for run in sweep.runs("model")) == sorted(runs)
    assert sweep.only("sweep").info.status == "FINISHED"
    assert {path.parent.name for path in sweep.root.glob("*/result.json")} == {str(n) for n in range(len(runs))}


def test_a_resumed_sweep_leaves_out_the_same_jobs(
    command: Command, job: list[str], quality_only: list[str], tmp_path: Path
) -> None:
    arguments = ["-m", *job, *quality_only, "layer=final,-1,3,12", "hydra.sweep.dir=sweep"]
    assert command(arguments, tmp_path).returncode == 0
    again = command([*arguments, "resume=true"], tmp_path)
    assert again.returncode == 0 and again.stderr.count("finished before, not run again") == 2
    assert len(list((tmp_path / "sweep").glob("*/result.json"))) == 2
