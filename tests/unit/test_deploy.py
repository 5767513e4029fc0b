"""The files under deploy/, held against rules that no engine here can check, and the batch file with stand-ins."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.cli import server as mlflow_server

SECRETS = {"POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"}


@pytest.fixture(scope="module")
def compose(repo_root: Path) -> Any:
    return yaml.safe_load((repo_root / "deploy" / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose: Any) -> dict[str, Any]:
    return dict(compose["services"])


def test_compose_has_mlflow_postgresql_and_a_store(services: dict[str, Any]) -> None:
    assert services.keys() == {"postgres", "objects", "bucket", "mlflow"}
    allowed = {"image", "build", "command", "entrypoint", "environment", "volumes", "ports", "healthcheck"}
    assert all(service.keys() <= allowed | {"depends_on", "restart"} for service in services.values())


def test_compose_pins_what_it_pulls(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "image" in service]
    images += re.findall(r"^FROM (\S+)", services["mlflow"]["build"]["dockerfile_inline"], re.MULTILINE)
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"[a-z]+(/[a-z]+)?:[\w.-]*\d[\w.-]*", image), image


def test_the_server_has_the_versions_of_the_clients(services: dict[str, Any], repo_root: Path) -> None:
    lock = (repo_root / "requirements.lock").read_text(encoding="utf-8")
    pins = dict(re.findall(r"([\w-]+)==([\w.]+)", services["mlflow"]["build"]["dockerfile_inline"]))
    assert pins.keys() == {"mlflow", "psycopg2-binary", "boto3"}
    for name in ("mlflow", "psycopg2-binary"):
        assert re.search(rf"^{name}=={re.escape(pins[name])}\b", lock, re.MULTILINE), name


def test_passwords_are_asked_for_and_never_written_down(repo_root: Path) -> None:
    text = (repo_root / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert {name for name in used if not re.search(rf"\$\{{{name}:-", text)} == SECRETS
    assert all(set(re.findall(rf"\$\{{{name}(.)", text)) == {":"} for name in SECRETS)
    example = (repo_root / "deploy" / "example.env").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^(#?\w+)=(.*)$", example, re.MULTILINE))
    assert {name.removeprefix("#") for name in settings} | {"PORT"} == used
    assert all(settings[name] == "" for name in SECRETS)
    assert "/deploy/.env" in (repo_root / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_services_wait_for_what_they_need(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            ready = how["condition"] == "service_healthy" and "healthcheck" in services[needed]
            ended = how["condition"] == "service_completed_successfully" and services[needed]["restart"] == "no"
            assert ready or ended, (name, needed)
    assert services["mlflow"]["depends_on"].keys() == {"postgres", "bucket"}


def test_volumes_are_declared_and_nothing_but_mlflow_is_reached_from_outside(
    compose: Any, services: dict[str, Any]
) -> None:
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert mounted == set(compose["volumes"]) == {"postgres", "objects"}
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "mlflow": ["${BIND:-127.0.0.1}:${PORT:-5000}:5000"]
    }


def test_the_server_takes_these_options(services: dict[str, Any]) -> None:
    program, command, *options = services["mlflow"]["command"]
    assert (program, command) == ("mlflow", "server")
    known = {name for parameter in mlflow_server.params for name in parameter.opts}
    assert {option.split("=")[0] for option in options} <= known
    variables = {parameter.envvar for parameter in mlflow_server.params}
    assert "MLFLOW_BACKEND_STORE_URI" in variables


def test_the_ray_cluster_starts_ray_on_every_machine(repo_root: Path) -> None:
    cluster = yaml.safe_load((repo_root / "deploy" / "ray_cluster.yaml").read_text(encoding="utf-8"))
    assert cluster["provider"]["type"] == "local" and len(cluster["provider"]["worker_ips"]) == cluster["max_workers"]
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert [re.search(r"bin/ray (start|stop)", command)[1] for command in commands] == ["stop", "start"]  # type: ignore[index]


PYTHON = """#!/bin/bash
printf '%s\\n' "$@" > arguments.txt
if [ -e wait ]; then
  trap 'exit 143' TERM
  touch started
  while :; do sleep 0.05; done
fi
exit $(cat status)
"""
SCONTROL = '#!/bin/bash\nprintf "%s\\n" "$*" > requeued.txt\n'


@pytest.fixture
def batch(tmp_path: Path, repo_root: Path) -> tuple[list[str], dict[str, str]]:
    """The batch file's command and environment; Python and scontrol are stand-ins."""
    for place, text in ((".venv/bin/python", PYTHON), ("bin/scontrol", SCONTROL)):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
        (tmp_path / place).chmod(0o755)
    (tmp_path / "status").write_text("0")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    environment["SLURM_SUBMIT_DIR"] = str(tmp_path)
    return [str(repo_root / "deploy" / "slurm.sh"), "-m", "layer=1,3"], environment


@pytest.mark.parametrize("gpus", ["", "1", "2", "4"])
def test_slurm_job_uses_the_gpus_it_was_given(
    batch: tuple[list[str], dict[str, str]], tmp_path: Path, gpus: str
) -> None:
    command, environment = batch
    subprocess.run(command, env=environment | ({"SLURM_GPUS_ON_NODE": gpus} if gpus else {}), check=True)
    expected = ["-m", "rwkv_sweep", "-m", "layer=1,3", "hydra.sweep.dir=multirun/slurm-7", "resume=true"]
    if gpus in ("2", "4"):
        expected += ["hydra/launcher=parallel", f"hydra.launcher.n_jobs={gpus}"]
    assert (tmp_path / "arguments.txt").read_text().split() == expected
    assert not (tmp_path / "requeued.txt").exists()


@pytest.mark.parametrize("status", [1, 2, 130])
def test_slurm_job_ends_as_the_sweep_does(batch: tuple[list[str], dict[str, str]], tmp_path: Path, status: int) -> None:
    command, environment = batch
    (tmp_path / "status").write_text(str(status))
    assert subprocess.run(command, env=environment, check=False).returncode == status
    assert not (tmp_path / "requeued.txt").exists()


def test_slurm_job_near_its_time_limit_is_queued_again(batch: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, environment = batch
    (tmp_path / "wait").touch()
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert (tmp_path / "requeued.txt").read_text() == "requeue 7\n"


def test_slurm_file_says_how_to_start_it(repo_root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [repo_root / "deploy" / "slurm.sh"],
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "start this file with sbatch" in done.stderr
