"""A Ray cluster of three simulated machines, one of which goes away in mid-sweep. Run by make test-ray."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.sweeps import SWEPT, arguments, check_complete, quality, records, tracked
from tests.search_path import search_path

pytest.importorskip("ray", reason="Ray is not installed: make test-ray has it in an environment of its own")
pytestmark = pytest.mark.faults


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, repo_root: Path) -> Iterator[Any]:
    """Three machines of one CPU each; the first is the head."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", search_path(repo_root))  # for the workers, as if the program were installed there

    actual = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        actual.add_node(num_cpus=1)
    actual.wait_for_nodes()
    yield actual
    actual.shutdown()


def test_a_machine_goes_away_in_mid_sweep(
    cluster: Any, tiny_checkpoint: Path, few_pairs: Path, tmp_path: Path, fault_environment: dict[str, str]
) -> None:
    base = [*arguments(SWEPT["small"], tiny_checkpoint, few_pairs), "resume=true"]
    calm = start([*base, "tracking.enabled=false", "hydra.sweep.dir=calm"], tmp_path, fault_environment)
    assert calm.wait(500) == 0
    undisturbed = quality(records(tmp_path / "calm"))

    on_ray = ["hydra/launcher=ray_cpu", f"hydra.launcher.ray.init.address={cluster.address}", "hydra.sweep.dir=sweep"]
    began = time.monotonic()
    process = start([*base, *on_ray], tmp_path, fault_environment)
    while len(list(tmp_path.glob("sweep/*/result.json"))) < 2:
        assert process.poll() is None and time.monotonic() < began + 500, (tmp_path / "output.txt").read_text()
        time.sleep(0.2)
    cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0], allow_graceful=False)
    starts, code = 1, process.wait(500)
    while code != 0 and starts < 4:  # the driver may have lost what it waited for
        starts, code = starts + 1, start([*base, *on_ray], tmp_path, fault_environment).wait(500)
    took = time.monotonic() - began
    assert code == 0, (tmp_path / "output.txt").read_text()
    check_complete(tmp_path, tmp_path / "sweep", undisturbed)
    models = [record for record in records(tmp_path / "sweep").values() if record["kind"] == "model"]
    assert {record["tags"]["launcher"] for record in models} == {"ray_cpu"}
    parents = [run for run in tracked(tmp_path) if run.data.tags["rwkv_sweep.kind"] == "sweep"]
    assert [run.info.status for run in parents] == ["FINISHED"]
    print(f"8 runs on three machines, one lost: complete after {starts} start(s), {took:.0f} s")


def start(command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (cwd / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "rwkv_sweep", *command], cwd=cwd, env=environment, stdout=output, stderr=output
        )


def test_ray_takes_the_cluster_file(repo_root: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((repo_root / "deploy" / "ray_cluster.yaml").read_text())))
