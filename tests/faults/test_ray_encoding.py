"""A folder of texts encoded by two actors on Ray, one of which is killed. Run by make test-ray."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rwkv_sweep import Encoder
from tests.small_runs import finish_run, small_checkpoint, small_config, small_pairs

pytest.importorskip("ray", reason="Ray is not installed: make test-ray has it in an environment of its own")
pytestmark = pytest.mark.faults

FILES, TEXTS = 8, 1500


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, repo_root: Path) -> Iterator[Any]:
    """Two machines of two CPUs, each of which takes one actor."""
    from ray.cluster_utils import Cluster

    path = os.pathsep.join(dict.fromkeys([str(repo_root), *filter(None, sys.path)]))
    monkeypatch.setenv("PYTHONPATH", path)  # for the workers, as if the program were installed there
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    machines.add_node(num_cpus=2)
    machines.wait_for_nodes()
    yield machines
    machines.shutdown()


def test_an_actor_is_killed(cluster: Any, tmp_path: Path) -> None:
    run = small_config(small_checkpoint(tmp_path / "small"), small_pairs(tmp_path / "data"), "layer=1")
    finish_run(run, tmp_path / "run")
    (tmp_path / "texts").mkdir()
    for number in range(FILES):
        lines = [f"The cat of file {number} slept {row} times." for row in range(TEXTS)]
        (tmp_path / "texts" / f"part-{number}.txt").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "rwkv_sweep", "encode", "texts", "--run", "run", "--out", "vectors"]
    command += ["--ray", str(cluster.address)]
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
    killed = False
    while process.poll() is None:
        if not killed and (actor := working_actor(tmp_path / "vectors", process.pid)) is not None:
            os.kill(actor, 9)
            killed = True
        time.sleep(0.01)
    said = (tmp_path / "output.txt").read_text()
    assert process.returncode == 0 and killed, said
    assert f"{FILES} files encoded ({FILES * TEXTS} texts), 0 there before" in said
    encoder = Encoder.from_run(tmp_path / "run")
    for number in range(FILES):
        table = pq.read_table(tmp_path / "vectors" / f"part-{number}.parquet")
        lines = (tmp_path / "texts" / f"part-{number}.txt").read_text().splitlines()
        np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), encoder.encode(lines), atol=1e-5)
    assert not list((tmp_path / "vectors").glob(".*"))
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout.startswith(f"0 files encoded (0 texts), {FILES} there before"), again.stderr


def working_actor(folder: Path, driver: int) -> int | None:
    """The process, not the driver, that holds the lock of a file that is being encoded."""
    for lock in folder.glob(".*.parts/lock"):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                opened = {os.readlink(file) for file in (process / "fd").iterdir()}
            except OSError:
                continue
            if str(lock) in opened and int(process.name) != driver:
                return int(process.name)
    return None
