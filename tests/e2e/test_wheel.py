"""The wheel works without the repository: it carries `conf/` and the assets, and runs from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.search_path import LIMIT_S, search_path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


def run(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(repo_root)], folder)
    (built,) = folder.glob("rwkv_sweep-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content; on PYTHONPATH it comes before the editable install."""
    folder = tmp_path_factory.mktemp("installed")
    run([*PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", str(folder), str(wheel)], folder)
    return folder


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    ("source", "target"),
    [("conf", "rwkv_sweep/conf"), ("rwkv_sweep", "rwkv_sweep"), ("hydra_plugins", "hydra_plugins")],
)
def test_wheel_carries_every_file(repo_root: Path, wheel: Path, source: str, target: str) -> None:
    expected = {f"{target}/{name}" for name in files_below(repo_root / source)}
    with ZipFile(wheel) as archive:
        assert expected - set(archive.namelist()) == set()


def test_wheel_carries_assets_and_nothing_but_the_package(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.startswith("rwkv_sweep/assets/") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rwkv_sweep", "hydra_plugins"}
    assert "hydra_plugins/__init__.py" not in names  # a namespace that other plugins share


def test_run_from_another_folder_reads_the_wheels_conf(installed: Path, tmp_path: Path) -> None:
    module = [sys.executable, "-m", "rwkv_sweep"]
    searched = run([*module, "--info", "searchpath"], tmp_path, PYTHONPATH=search_path(installed))
    assert str(installed / "rwkv_sweep" / "conf") in searched

    composed = run([*module, "--cfg", "job"], tmp_path, PYTHONPATH=search_path(installed))
    assert "\nlayer:" in f"\n{composed}"
    plugins = run([*module, "--info", "plugins"], tmp_path, PYTHONPATH=search_path(installed))
    assert "ByModelSweeper" in plugins


def test_console_script_reaches_the_same_main(installed: Path, tmp_path: Path) -> None:
    script = installed / "bin" / "rwkv-sweep"
    composed = run([sys.executable, str(script), "--cfg", "job"], tmp_path, PYTHONPATH=search_path(installed))
    assert "\nlayer:" in f"\n{composed}"
