"""A tracking server that dies, hangs or answers 500 in mid-sweep: the sweep ends, its records are right, and what was
not tracked can be imported."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rwkv_sweep.tracking import MlflowClient
from tests.commands import Commands
from tests.faults.servers import Proxy, free_port, mlflow_server
from tests.faults.sweeps import arguments, records

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def command(tiny_checkpoint: Path, few_pairs: Path) -> list[str]:
    swept = ["layer=0,1,2", "measure.latency_pairs=0", "hydra.sweep.dir=sweep"]
    return [*arguments(swept, tiny_checkpoint, few_pairs), "measure.latency_pairs=0"]


def tracked_runs(address: str, experiment: str) -> dict[str, str]:
    """Status by name, of the runs of an experiment without the sweep's own; none is there twice."""
    client = MlflowClient(tracking_uri=f"http://{address}")
    actual = client.get_experiment_by_name(experiment)
    assert actual is not None
    runs = list(client.search_runs([actual.experiment_id]))
    assert len({run.data.tags["rwkv_sweep.record"] for run in runs}) == len(runs)
    return {run.info.run_name: run.info.status for run in runs if run.data.tags["rwkv_sweep.kind"] != "sweep"}


def check_and_import(commands: Commands, cwd: Path, address: str, experiment: str) -> None:
    """All records are whole; after an import the server has each of them once, and nothing is RUNNING."""
    actual = records(cwd / "sweep")
    assert len(actual) == 4 and {record["status"] for record in actual.values()} == {"FINISHED"}
    given = ["import", "sweep", "--uri", f"http://{address}"]
    assert commands.run(given, cwd).code == 0
    assert tracked_runs(address, experiment) == dict.fromkeys(actual, "FINISHED")


@pytest.mark.parametrize("how", ["500", "hang", "close"])
@pytest.mark.parametrize("fails_after", [0, 12, 40])
def test_it_fails_for_good(
    commands: Commands, command: list[str], server: str, tmp_path: Path, how: str, fails_after: int
) -> None:
    experiment, proxy = f"{how} after {fails_after}", Proxy(server, how, fails_after)
    try:
        fast = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
        ended = commands.run(
            [*command, f"tracking.uri={proxy.uri}", f"tracking.experiment={experiment}"], tmp_path, environment=fast
        )
    finally:
        proxy.close()
    assert ended.code == 0 and "Traceback" not in ended.output, ended.output
    lines = ended.output.splitlines()
    assert proxy.failed > 0
    assert sum(line.startswith(f"tracking at {proxy.uri} failed (") for line in lines) == 1, ended.output
    assert f"to track them later: rwkv-sweep import {tmp_path}/sweep" in lines
    check_and_import(commands, tmp_path, server, experiment)


@pytest.mark.parametrize("how", ["500", "close"])
def test_it_comes_back(commands: Commands, command: list[str], server: str, tmp_path: Path, how: str) -> None:
    """What it missed is imported at the sweep's end."""
    experiment, proxy = f"{how} and back", Proxy(server, how, 15, back_after=2)
    try:
        ended = commands.run([*command, f"tracking.uri={proxy.uri}", f"tracking.experiment={experiment}"], tmp_path)
        assert ended.code == 0, ended.output
        assert "to track them later" not in ended.output
        actual = records(tmp_path / "sweep")
        assert tracked_runs(server, experiment) == dict.fromkeys(actual, "FINISHED")
    finally:
        proxy.close()


def test_sigterm_does_not_wait_for_a_server_that_hangs(
    command: list[str], server: str, tmp_path: Path, fault_environment: dict[str, str]
) -> None:
    proxy = Proxy(server, "hang", 12)
    environment = {**fault_environment, "MLFLOW_HTTP_REQUEST_TIMEOUT": "600"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rwkv_sweep", *command, f"tracking.uri={proxy.uri}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while proxy.failed == 0:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        # Far less than the 600 s that the request would have taken.
        _, errors = process.communicate(timeout=300)
    finally:
        proxy.close()
        process.kill()
        process.wait()
    assert process.returncode == 143 and "Traceback" not in errors
    assert errors.splitlines()[-1] == "interrupted: what had finished is kept"


@pytest.mark.skipif(not shutil.which("ss"), reason="no ss (iproute2) to list sockets with")
def test_a_server_for_a_team_listens_on_this_machine_alone(tmp_path: Path, fault_environment: dict[str, str]) -> None:
    if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        pytest.skip("PostgreSQL is not installed")
    if os.getuid() == 0:
        for folder in (tmp_path, *list(tmp_path.parents)[:3]):
            folder.chmod(0o755)  # its own user must be able to enter
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "rwkv_sweep",
        "server",
        "--folder",
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=fault_environment, stdout=log, stderr=log)
    try:
        listening = ""
        while f":{port} " not in listening:
            assert process.poll() is None, (tmp_path / "log").read_text()
            listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
            time.sleep(0.2)
        places = [line.split()[3] for line in listening.splitlines()]
        assert [place for place in places if place.endswith(f":{port}")] == [f"127.0.0.1:{port}"]
        children = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
        assert not [line for line in children.splitlines() if "postgres" in line and "127.0.0.1" not in line]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
