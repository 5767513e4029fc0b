"""Another user, a package or folders that cannot be written, no home: runs give the same numbers, or one line.

Each command runs as a user whom the system does not know, with rights on its own folder alone; it may read everything,
as the interpreter may lie in a folder of root's. By default each place meets a run or a sweep; `covering` has the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.covering import matrix
from tests.faults.sweeps import arguments, quality
from tests.other_user import USER, as_other_user, reachable_folder
from tests.search_path import LIMIT_S, search_path

pytestmark = pytest.mark.faults

Figures = dict[str, dict[str, float]]

MODES = {"single": ["layer=3"], "sweep": ["-m", "layer=0,3"]}


@dataclass
class Machine:
    """Where a command runs. cwd: the user's own. package: holds `rwkv_sweep`, as its installer left it. temporary: the
    system's temporary folder. environment: what is set besides."""

    cwd: Path
    package: Path
    temporary: Path
    job: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, mode: str, *more: str, user: bool = True) -> subprocess.CompletedProcess[str]:
        kept = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "MLFLOW_DISABLE_TELEMETRY", "HF_HUB_OFFLINE")
        environment = {key: os.environ[key] for key in kept if key in os.environ}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        environment |= {"PYTHONPATH": search_path(self.package), "COLUMNS": "80", **self.environment}
        command = [*(as_other_user() if user else []), sys.executable, "-m", "rwkv_sweep", *MODES[mode], *more]
        return subprocess.run(
            [*command, *self.job], cwd=self.cwd, env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )

    def own(self, path: Path) -> Path:
        """A folder of the user."""
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, USER, USER)
        return path


@pytest.fixture(scope="module")
def reachable(tiny_checkpoint: Path, few_pairs: Path) -> Iterator[Path]:
    """A folder with model and pairs."""
    as_other_user()
    with reachable_folder() as folder:
        shutil.copytree(tiny_checkpoint, folder / "model")
        shutil.copy(few_pairs, folder / "pairs.tsv")
        (folder / "temporary").mkdir()
        (folder / "temporary").chmod(0o1777)  # one for all commands, so that kernels are compiled once
        yield folder


@pytest.fixture(scope="module")
def job(reachable: Path) -> list[str]:
    whole = arguments([], reachable / "model", reachable / "pairs.tsv")
    return [argument for argument in whole if argument != "-m"]


@pytest.fixture(scope="module")
def package(repo_root: Path, reachable: Path) -> Path:
    """A copy that root installed: nobody else can write it, and no kernel is compiled in it."""
    folder = reachable / "installed"
    for name in ("rwkv_sweep", "hydra_plugins", "conf"):
        shutil.copytree(repo_root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    return folder


@pytest.fixture
def machine(package: Path, reachable: Path, job: list[str]) -> Machine:
    own = Path(tempfile.mkdtemp(dir=reachable))
    own.chmod(0o755)
    made = Machine(own / "cwd", package, reachable / "temporary", list(job))
    made.own(made.cwd)
    return made


@pytest.fixture(scope="module")
def expected(repo_root: Path, job: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figures]:
    """Figures of both modes where nothing is wrong."""
    figures = {}
    for mode in MODES:
        usual = Machine(tmp_path_factory.mktemp("usual"), repo_root, Path("/tmp"), job)
        usual.environment["HOME"] = os.environ.get("HOME", "/root")
        done = usual.run(mode, user=False)
        assert done.returncode == 0, done.stderr
        figures[mode] = figures_of(usual.cwd)
        assert len(figures[mode]) == len(MODES[mode]) + 1
    return figures


def results(cwd: Path) -> list[dict[str, Any]]:
    paths = [path for folder in ("outputs", "multirun") for path in (cwd / folder).rglob("result.json")]
    return [json.loads(path.read_text()) for path in paths]


def figures_of(cwd: Path) -> Figures:
    """Those that repeat to the last digit, of all runs and baselines, by name."""
    return quality({record["name"]: record for record in results(cwd)})


def state(folder: Path) -> dict[str, tuple[bytes | None, int, int, int, int]]:
    """Content, time, mode and owner of all that lies in a folder."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else None,
            path.stat().st_mtime_ns if path.is_file() else 0,
            stat.S_IMODE(path.stat().st_mode),
            path.stat().st_uid,
            path.stat().st_gid,
        )
        for path in folder.rglob("*")
    }


# What may be wrong. Each returns folders of others, which must stay as they are, and what a run is tagged with.


@dataclass
class Case:
    """said: what the user is to read, once. foreign: folders in which nothing may change. note: within `note.store`."""

    said: list[str] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)
    note: str | None = None


def no_home_and_no_name(machine: Machine) -> Case:
    """Its folder in the temporary one is then its home, where Numba finds a place by itself."""
    return Case(foreign=[machine.package])


def home_that_is_no_folder(machine: Machine) -> Case:
    machine.environment["HOME"] = "/dev/null"
    return Case(said=["compiled Numba kernels are kept in "], foreign=[machine.package])


def home_of_another(machine: Machine) -> Case:
    home = machine.cwd.parent / "home"
    home.mkdir(mode=0o755)
    machine.environment["HOME"] = str(home)
    return Case(said=["compiled Numba kernels are kept in "], foreign=[home, machine.package])


def home_that_can_be_written(machine: Machine) -> Case:
    machine.environment["HOME"] = str(machine.own(machine.cwd.parent / "home"))
    return Case(foreign=[machine.package])


def temporary_folder_taken(machine: Machine) -> Case:
    """By another user, who could put code there."""
    machine.temporary = machine.cwd.parent / "temporary"
    machine.temporary.mkdir()
    machine.temporary.chmod(0o1777)
    (machine.temporary / f"rwkv_sweep-{USER}").mkdir()
    machine.environment["HOME"] = str(machine.own(machine.cwd.parent / "home"))
    machine.environment["NUMBA_CACHE_DIR"] = str(machine.own(machine.cwd.parent.parent / "loops"))
    return Case(foreign=[machine.temporary / f"rwkv_sweep-{USER}", machine.package])


def store_of_another(machine: Machine) -> Case:
    """Made by root, with entries of the same runs."""
    store = filled_store(machine)
    machine.job.append("pooling=last")  # which is not there, and would be written
    return Case(["cannot be written (Permission denied)"], [store], "it cannot be written: Permission denied")


def shared_store_with_files_of_another(machine: Machine) -> Case:
    store = filled_store(machine)
    store.chmod(0o777)
    # The folder itself may get files of the user: what lies in it is compared one by one.
    return Case(["are used without locks (Permission denied)"], [store])


def store_of_another_shape(machine: Machine) -> Case:
    store = machine.own(machine.cwd.parent / "store")
    for name in ("list.json", "0" * 32 + ".json", "notes.json"):
        (store / name).write_text("[1, 2]")
    machine.job.append(f"store.path={store}")
    return Case([], [store])


CASES: list[Callable[[Machine], Case]] = [
    no_home_and_no_name,
    home_that_is_no_folder,
    home_of_another,
    home_that_can_be_written,
    temporary_folder_taken,
    store_of_another,
    shared_store_with_files_of_another,
    store_of_another_shape,
]


def filled_store(machine: Machine) -> Path:
    """Entries that root made, and root alone may write."""
    store = machine.cwd.parent / "store"
    usual = replace(machine, package=Path(__file__).parents[2], cwd=machine.cwd.parent / "root")
    usual.cwd.mkdir()
    done = usual.run("single", f"store.path={store}", "tracking.enabled=false", user=False)
    assert done.returncode == 0, done.stderr
    machine.job.append(f"store.path={store}")
    return store


@matrix({"make": CASES, "mode": list(MODES)})
def test_runs_go_on_with_the_same_figures(
    machine: Machine, expected: dict[str, Figures], make: Callable[[Machine], Case], mode: str
) -> None:
    case = make(machine)
    before = [state(folder) for folder in case.foreign]
    done = machine.run(mode)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for said in case.said:
        assert done.stderr.count(said) == 1, done.stderr
    ran = [record for record in results(machine.cwd) if record["kind"] == "model"]
    assert {record["status"] for record in ran} == {"FINISHED"}
    assert {record["tags"].get("note.store") for record in ran} == {case.note}
    if "pooling=last" not in machine.job:
        assert figures_of(machine.cwd) == expected[mode]
    for folder, was in zip(case.foreign, before, strict=True):
        now = state(folder)
        assert {name: now.get(name) for name in was} == was


@pytest.mark.parametrize("mode", MODES)
def test_a_tracking_database_of_another_user_is_refused_beforehand(machine: Machine, mode: str) -> None:
    mlruns = machine.cwd.parent / "mlruns"
    mlruns.mkdir()
    (mlruns / "mlflow.db").write_bytes(b"")
    (mlruns / "mlflow.db.lock").write_bytes(b"")
    mlruns.chmod(0o777)
    before = state(mlruns)
    done = machine.run(mode, f"tracking.uri='sqlite:///{mlruns}/mlflow.db'")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: tracking.uri=sqlite:///{mlruns}/mlflow.db cannot be used (")
    assert state(mlruns) == before and not any(machine.cwd.iterdir())
