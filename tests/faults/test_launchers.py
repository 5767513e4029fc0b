"""The same sweep under other launchers: one parent run, every record, the same figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.faults.sweeps import Undisturbed, check_complete, latest_root, records, tracked

LAUNCHERS = {"parallel": ["hydra.launcher.n_jobs=2"], "slurm_local": []}


@pytest.mark.faults
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launcher(commands: Commands, undisturbed: Callable[[str], Undisturbed], tmp_path: Path, launcher: str) -> None:
    calm = undisturbed("small")
    ended = commands.run([*calm.arguments, f"hydra/launcher={launcher}", *LAUNCHERS[launcher]], tmp_path)
    assert ended.code == 0, ended.output
    check_complete(tmp_path, latest_root(tmp_path), calm.quality)
    models = [record for record in records(latest_root(tmp_path)).values() if record["kind"] == "model"]
    assert {record["tags"]["launcher"] for record in models} == {launcher}
    runs = tracked(tmp_path)
    (parent,) = [run for run in runs if run.data.tags["rwkv_sweep.kind"] == "sweep"]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"


def test_a_launcher_that_is_not_installed_names_what_to_install() -> None:
    from hydra.errors import MissingConfigException

    from rwkv_sweep.config.error_messages import one_line

    message = "hydra/launcher=ray needs a plugin that is not installed: pip install 'rwkv-sweep[ray]'"
    plain = MissingConfigException("Could not find 'hydra/launcher/ray'", "hydra/launcher/ray", ["basic"])
    within = MissingConfigException("In 'hydra/launcher/ray_gpu': Could not load 'hydra/launcher/ray'.")
    assert one_line(plain) == message and one_line(within) == message
    other = MissingConfigException("Could not find 'hydra/launcher/x'", "hydra/launcher/x", ["basic", "parallel"])
    assert one_line(other) == "hydra/launcher=x is not known: valid are basic, parallel"
