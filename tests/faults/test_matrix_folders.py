"""Folders, file systems and signals against runs and sweeps: right numbers, or one clear line; what others have in a
folder stays as it is; nothing stays RUNNING in MLflow."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from rwkv_sweep.records.own_files import HYDRA_FILES, RUN_FILES
from rwkv_sweep.sweep.jobs import quoted
from tests.commands import SILENCE_S, Commands, Conditions, Ended
from tests.faults.sweeps import arguments

pytestmark = pytest.mark.faults

KINDS = ("run", "sweep")
RESUMABLE = "what had finished is kept, and the same command with resume=true runs the rest"


@dataclass(frozen=True)
class Place:
    """Where commands are started. said: the file their output goes to, outside of `cwd`."""

    commands: Commands
    base: list[str]
    cwd: Path
    said: Path

    def run(
        self, kind: str, *more: str, kill_after: float | None = None, after_records: int = 0, **conditions: object
    ) -> Ended:
        """A run of layer 0, or a sweep of layers 0 and 1; nothing that it says is ever a traceback."""
        start = ["-m", "layer=0,1"] if kind == "sweep" else ["layer=0"]
        settings = Conditions(log=str(self.said), **conditions)  # type: ignore[arg-type]
        ended = self.commands.run([*start, *self.base, *more], self.cwd, kill_after, after_records, conditions=settings)
        check_words(ended)
        return ended

    def in_folder(self, kind: str, folder: str, *more: str, **given: object) -> Ended:
        """As `run`, with its results in this folder."""
        key = "hydra.sweep.dir" if kind == "sweep" else "hydra.run.dir"
        return self.run(kind, f"{key}={quoted(folder)}", *more, **given)  # type: ignore[arg-type]


def check_words(ended: Ended) -> None:
    for word in ("Traceback", "Logging error", "Exception ignored", "Error executing job"):
        assert word not in ended.output, ended.output


def errors(ended: Ended) -> list[str]:
    return [line for line in ended.output.splitlines() if line.startswith("error: ")]


@pytest.fixture
def place(
    commands: Commands, tiny_checkpoint: Path, few_pairs: Path, empty_database: Path, tmp_path: Path
) -> Callable[[str], Place]:
    """A folder of this name to start commands in, with an empty database."""
    base = [*arguments([], tiny_checkpoint, few_pairs)[1:], "measure.latency_pairs=0"]

    def make(name: str) -> Place:
        cwd = tmp_path / name
        (cwd / "mlruns").mkdir(parents=True)
        shutil.copy(empty_database, cwd / "mlruns" / "mlflow.db")
        return Place(commands, base, cwd, tmp_path / "said.txt")

    return make


@pytest.fixture(scope="module")
def figures(
    commands: Commands, tiny_checkpoint: Path, few_pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, float]]:
    """Quality by layer, of a sweep that nothing befell."""
    cwd = tmp_path_factory.mktemp("control")
    base = [*arguments(["layer=0,1"], tiny_checkpoint, few_pairs), "measure.latency_pairs=0"]
    ended = commands.run([*base, "hydra.sweep.dir=sweep"], cwd)
    assert ended.code == 0, ended.output
    return by_layer(cwd / "sweep")


def by_layer(root: Path) -> dict[str, dict[str, float]]:
    """Figures that repeat, of each run that its sweep's record knows."""
    folders = json.loads((root / "sweep.json").read_text())["folders"]
    actual = [json.loads((root / folder / "result.json").read_text()) for folder in folders]
    assert [record["status"] for record in actual] == ["FINISHED"] * len(actual)
    return {
        record["params"]["layer"]: {
            key: value for key, value in record["metrics"].items() if key.startswith("quality/")
        }
        for record in actual
    }


def statuses(cwd: Path) -> list[str]:
    """Of all runs that the folder's database has."""
    with contextlib.closing(sqlite3.connect(f"{(cwd / 'mlruns' / 'mlflow.db').as_uri()}?mode=ro", uri=True)) as opened:
        return [status for (status,) in opened.execute("select status from runs order by start_time")]


def only_root(cwd: Path) -> Path:
    """The folder of the only sweep or run of a place."""
    (actual,) = [path.parent for path in cwd.rglob("sweep.json") if "mlruns" not in path.parts]
    return actual


def check_right(root: Path, kind: str, figures: dict[str, dict[str, float]]) -> None:
    wanted = {"0": figures["0"]} if kind == "run" else figures
    assert by_layer(root) == wanted


def tree(root: Path) -> dict[bytes, str]:
    """Digest of each file below a folder, target of each link, by path."""
    actual: dict[bytes, str] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in [*files, *folders]:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                actual[path] = os.fsdecode(os.readlink(path))
            elif name in files:
                with open(path, "rb") as file:
                    actual[path] = hashlib.sha256(file.read()).hexdigest()
    return actual


# Folders' names

WORKING = ("a b", 'it\'s "so"', "back\\", "mid\\x", "q'\\", "ü汉", "a%2Fb%41", "q?x#y", "a,b=[c]{d:e}", "$x ~ `y`")
REFUSED = {
    "${x}": "which Hydra reads as a variable: use another name",
    "back\\${x}": "which Hydra reads as a variable: use another name",
    "new\nline": "a character that cannot be printed",
    os.fsdecode(b"not \xff UTF-8"): "UTF-8",
}


@pytest.mark.parametrize("name", WORKING)
def test_a_folder_of_any_name(place: Callable[[str], Place], name: str, figures: dict[str, dict[str, float]]) -> None:
    """To start in, and as a value of Hydra's keys."""
    here = place(name)
    for kind in KINDS:
        before = len(statuses(here.cwd))
        ended = here.run(kind) if kind == "run" else here.in_folder(kind, name)
        assert ended.code == 0 and errors(ended) == [], ended.output
        roots = [path.parent for path in here.cwd.rglob("sweep.json")]
        (root,) = [path for path in roots if (path.name == name) is (kind == "sweep")]
        check_right(root, kind, figures)
        assert set(statuses(here.cwd)) == {"FINISHED"} and len(statuses(here.cwd)) > before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_whose_name_cannot_be(place: Callable[[str], Place], name: str, kind: str) -> None:
    here = place(name)
    before = tree(here.cwd)
    ended = here.run(kind)
    (line,) = errors(ended)
    assert ended.code == 2 and REFUSED[name] in line, ended.output
    assert tree(here.cwd) == before


# Jobs' folders

SUBDIRS = (
    "${hydra.job.override_dirname}",
    "x/${hydra.job.num}",
    "../y${hydra.job.num}",
    "${hydra:job.num}-${hydra.job.id}",
    "${now:%S-%f}/layer ${layer}\\",
    "it's ${layer}",
)


@pytest.mark.parametrize("subdir", SUBDIRS)
def test_jobs_lie_where_hydra_puts_them(
    place: Callable[[str], Place], subdir: str, figures: dict[str, dict[str, float]]
) -> None:
    here = place("here")
    option = f"hydra.sweep.subdir={quoted(subdir)}"
    ended = here.in_folder("sweep", "s/s", option)
    assert ended.code == 0 and errors(ended) == [], ended.output
    root = here.cwd / "s" / "s"
    check_right(root, "sweep", figures)
    assert len((root / "summary.csv").read_text().splitlines()) == 4  # a header, two layers, a baseline
    reported = here.commands.run(["report", str(root)], here.cwd)
    assert reported.code == 0, reported.output
    again = [str(root), "--uri", f"sqlite:///{here.cwd}/other.db", "--artifacts", str(here.cwd / "other")]
    imported = here.commands.run(["import", *again], here.cwd)
    assert imported.output == f"{root}: 3 imported, 0 completed, 0 there already\n"
    resumed = here.in_folder("sweep", "s/s", option, "resume=true")
    assert resumed.code == 0 and resumed.output.count("finished before, not run again") == 2, resumed.output
    assert set(statuses(here.cwd)) == {"FINISHED"}


@pytest.mark.parametrize(
    ("subdir", "reason"),
    [
        ("same", "the same folder"),
        (".", "the sweep's own"),
        ("..", "the sweep's own or holds it"),
        ("baselines/${hydra.job.num}", "something else of the sweep"),
        ("result.json/../same", "the same folder"),
        ("n" * 256 + "${hydra.job.num}", "257 bytes"),
        ("${hydra.job.num}/${hydra.job.override_dirname}${x}", "x"),
    ],
)
def test_jobs_folders_that_cannot_be(place: Callable[[str], Place], subdir: str, reason: str) -> None:
    here = place("here")
    before = tree(here.cwd)
    ended = here.run("sweep", f"hydra.sweep.subdir={quoted(subdir)}")
    (line,) = errors(ended)
    assert ended.code == 2 and reason in line, ended.output
    assert tree(here.cwd) == before


# Files of others

FOREIGN = (".env", "mine.csv", "notes.json", "2019/thesis.txt", "7/result.json", "0/mine.csv", "sub/.hydra/config.yaml")
INTO = {
    "run": ["hydra.run.dir=."],
    "run without Hydra's files": ["hydra.run.dir=.", "hydra.output_subdir=null"],
    "run in the database's folder": ["hydra.run.dir=mlruns"],
    "sweep": ["hydra.sweep.dir=."],
    "sweep in the database's folder": ["hydra.sweep.dir=mlruns"],
    "sweep beside": ["hydra.sweep.dir=s", "hydra.sweep.subdir=../${hydra.job.num}"],
}


def plant(cwd: Path) -> dict[bytes, str]:
    for name in FOREIGN:
        path = cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of others: {name}")
    (cwd / "3").symlink_to(cwd / "2019")
    return {path: digest for path, digest in tree(cwd).items() if b"mlruns" not in path}


@pytest.mark.parametrize("into", INTO)
def test_files_of_others_stay_as_they_are(
    place: Callable[[str], Place], into: str, figures: dict[str, dict[str, float]]
) -> None:
    """Through a first run, one that is resumed, and one that is resumed with other layers."""
    here, kind = place("here"), into.split()[0]
    planted = plant(here.cwd)
    for more in (
        [],
        ["resume=true"],
        ["resume=true", "seed=5"],
        ["resume=true", "layer=1,0,2" if kind == "sweep" else "layer=1"],
    ):
        ended = here.run(kind, *INTO[into], *more)
        assert ended.code == 0 and errors(ended) == [], ended.output
        after = tree(here.cwd)
        assert {path: after.get(path) for path in planted} == planted
    assert set(statuses(here.cwd)) == {"FINISHED"}
    logged = {
        path.relative_to(folder).as_posix()
        for folder in artifacts(here.cwd)
        for path in folder.rglob("*")
        if path.is_file()
    }
    model = {f"model/{name}" for name in ("MLmodel", "encoder.json", "fitted.safetensors", "input_example.json")}
    assert logged <= {*RUN_FILES, *HYDRA_FILES, *model, "rwkv_sweep.log", "summary.csv", "summary.md", "report.html"}
    assert {"result.json", "pairs.csv"} <= logged


def artifacts(cwd: Path) -> list[Path]:
    return list((cwd / "mlruns" / "artifacts").glob("*/artifacts"))


@pytest.mark.parametrize("into", ["run", "sweep"])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("summary.csv", []),
        ("stopped", ["resume=true"]),
        (".lock", []),
        ("0/pairs.csv", []),
        ("pairs.csv", ["resume=true"]),
        (".hydra/config.yaml", []),
    ],
)
def test_files_of_others_are_never_overwritten(
    place: Callable[[str], Place], into: str, name: str, more: list[str]
) -> None:
    """Whatever would have one of our names, where no sweep has been."""
    here = place("here")
    (here.cwd / name).parent.mkdir(exist_ok=True)
    (here.cwd / name).write_text("of others")
    before = tree(here.cwd)
    concerned = name in ("summary.csv", "stopped", ".lock") or (name == "0/pairs.csv") is (into == "sweep")
    ended = here.run(into, *INTO[into], *more)
    assert (ended.code, len(errors(ended))) == ((2, 1) if concerned else (0, 0)), ended.output
    after = tree(here.cwd)
    assert after == before if concerned else after[os.fsencode(here.cwd / name)] == before[os.fsencode(here.cwd / name)]


# File systems

SIZES = (300, 3_000, 12_000, 60_000, 300_000)
"""The largest file, in bytes: too small for sweep.json, Hydra's files, records, the page, the database."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_limit_on_files_sizes(
    place: Callable[[str], Place], kind: str, size: int, figures: dict[str, dict[str, float]]
) -> None:
    here = place("here")
    limited = here.in_folder(kind, "s", file_size=size)
    check_limited(here, kind, limited, figures)


def check_limited(
    here: Place, kind: str, limited: Ended, figures: dict[str, dict[str, float]], folder: str = "s"
) -> None:
    """Complete, or a line that says why not and what to do; complete after a resume without the limit."""
    root = here.cwd / folder
    assert limited.code in (0, 1, 2), limited.output
    if limited.code == 0:
        check_right(root, kind, figures)
    else:
        reasons = [line for line in errors(limited) if "File too large" in line or "No space left" in line]
        assert reasons or "requested and" in limited.output, limited.output
        assert (root / "sweep.json").exists() is (limited.code == 1)
    resumed = here.in_folder(kind, folder, "resume=true")
    assert resumed.code == 0 and errors(resumed) == [], resumed.output
    check_right(root, kind, figures)
    assert "RUNNING" not in statuses(here.cwd) and "FINISHED" in statuses(here.cwd)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of this size in memory; skipped, with the reason, where it cannot be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip() if done else 'no mount'}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["4k", "24k", "64k", "128k"])
def test_a_full_disk(
    place: Callable[[str], Place], kind: str, size: str, figures: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    """Full at the start, while jobs are recorded, at the end; then made larger."""
    here = place("here")
    with small_disk(here.cwd / "disk", size):
        full = here.in_folder(kind, "disk/s")
        kept = sorted((here.cwd / "disk").rglob("result.json"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(here.cwd / "disk")], check=True)
        assert all(json.loads(path.read_text())["status"] for path in kept)
        check_limited(here, kind, full, figures, "disk/s")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["1200k", "1600k"])
def test_a_disk_that_the_database_fills_too(
    place: Callable[[str], Place], kind: str, size: str, figures: dict[str, dict[str, float]]
) -> None:
    here = place("here")
    with small_disk(here.cwd / "disk", size):
        inner = Place(here.commands, here.base, here.cwd / "disk", here.said)
        shutil.copytree(here.cwd / "mlruns", inner.cwd / "mlruns")
        full = inner.in_folder(kind, "s")
        subprocess.run(["mount", "-o", "remount,size=64m", str(inner.cwd)], check=True)
        check_limited(inner, kind, full, figures)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("records", "seconds"), [(0, 0.3), (1, 0.0), (2, 0.0)])
def test_a_folder_removed_meanwhile(
    place: Callable[[str], Place], kind: str, records: int, seconds: float, figures: dict[str, dict[str, float]]
) -> None:
    """The first record is the baseline's."""
    here = place("here")
    removed = here.in_folder(kind, "s", kill_after=seconds, after_records=records, remove=str(here.cwd / "s"))
    assert removed.code in (0, 1), removed.output  # it may have ended, or not begun
    if removed.code:
        (line,) = errors(removed)
        assert "was removed while its sweep ran" in line
    assert "RUNNING" not in statuses(here.cwd)
    shutil.rmtree(here.cwd / "s", ignore_errors=True)
    again = here.in_folder(kind, "s")
    assert again.code == 0, again.output
    check_right(here.cwd / "s", kind, figures)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_files_follow_the_umask(place: Callable[[str], Place], kind: str, umask: int) -> None:
    here = place("here")
    ended = here.in_folder(kind, "s", umask=umask)
    assert ended.code == 0, ended.output
    written = [path for path in (here.cwd / "s").rglob("*") if path.name != ".lock"]
    written += [path for folder in artifacts(here.cwd) for path in folder.rglob("*")]
    assert len(written) > 20
    for path in written:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


# Ends


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("records", [0, 1])
def test_signals(
    place: Callable[[str], Place], kind: str, name: str, code: int, records: int, figures: dict[str, dict[str, float]]
) -> None:
    here = place("here")
    number = getattr(signal, name)
    ended = here.in_folder(kind, "s", kill_after=0.3 if records == 0 else 0.0, after_records=records, signal=number)
    assert ended.code in (code, 0), ended.output  # it may have ended before
    assert ended.code == 0 or ended.output.splitlines()[-1] == "interrupted: what had finished is kept"
    assert "RUNNING" not in statuses(here.cwd)
    resumed = here.in_folder(kind, "s", "resume=true")
    assert resumed.code == 0, resumed.output
    check_right(here.cwd / "s", kind, figures)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unread", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_output_that_nobody_reads(
    place: Callable[[str], Place], kind: str, unread: tuple[str, ...], figures: dict[str, dict[str, float]]
) -> None:
    here = place("here")
    ended = here.in_folder(kind, "s", unread=unread)
    assert ended.code == (141 if "stdout" in unread else 0), ended.output
    check_right(here.cwd / "s", kind, figures)
    assert set(statuses(here.cwd)) == {"FINISHED"}


# Two at once


@pytest.fixture
def other(fault_environment: dict[str, str]) -> Iterator[Commands]:
    started = Commands(fault_environment, longest_silence_s=SILENCE_S)
    yield started
    started.close()


@pytest.mark.parametrize("more", [[], ["hydra.sweep.dir=s"], ["hydra.sweep.dir=s", "resume=true"]])
def test_two_sweeps_at_once(
    place: Callable[[str], Place],
    other: Commands,
    more: list[str],
    figures: dict[str, dict[str, float]],
    tmp_path: Path,
) -> None:
    """In one folder without a database: both are right, or one of them is refused in one line."""
    here = place("here")
    shutil.rmtree(here.cwd / "mlruns")
    there = Place(other, here.base, here.cwd, tmp_path / "other.txt")
    with ThreadPoolExecutor(2) as pool:
        ends = [future.result() for future in [pool.submit(one.run, "sweep", *more) for one in (here, there)]]
    assert sorted(ended.code for ended in ends) in ([0, 0], [0, 2])
    for ended in ends:
        assert (
            errors(ended) == [] if ended.code == 0 else re.search("by another process|holds a sweep", errors(ended)[0])
        )
    roots = [path.parent for path in here.cwd.rglob("sweep.json")]
    assert len(roots) == (1 if more else 2)
    for root in roots:
        check_right(root, "sweep", figures)
    assert set(statuses(here.cwd)) == {"FINISHED"}
    if not more:
        assert len(statuses(here.cwd)) == 8  # a parent, a baseline and two layers of each
