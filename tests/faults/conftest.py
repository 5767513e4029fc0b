"""A model and pairs so small that a run takes a fraction of a second."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import SILENCE_S, Commands
from tests.faults.sweeps import RUNS, SWEPT, Streams, Undisturbed, arguments, latest_root, quality, records
from tests.search_path import search_path


@pytest.fixture(scope="session")
def fault_environment(repo_root: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("HYDRA_FULL_ERROR", "MLFLOW_RUN_ID")}
    return {**kept, "PYTHONPATH": search_path(repo_root), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


@pytest.fixture(scope="session")
def commands(fault_environment: dict[str, str]) -> Iterator[Commands]:
    started = Commands(fault_environment, longest_silence_s=SILENCE_S)
    yield started
    started.close()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four narrow blocks."""
    from tests.small_models import small_lm

    folder = tmp_path_factory.mktemp("faults") / "model"
    small_lm(32, num_blocks=4, head_size=8).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def few_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = "the cat slept while rain fell on a red roof and nobody came home before dark that day"
    words = text.split()
    rows = ["sentence1\tsentence2\tlabel"]
    for number in range(16):
        first = " ".join(words[(number + step * step) % len(words)] for step in range(6))
        second = " ".join(words[(number * (2 - number % 2) + step) % len(words)] for step in range(5))
        rows.append(f"{first}\t{second}\t{number % 2}")
    path = tmp_path_factory.mktemp("faults") / "pairs.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def undisturbed(
    commands: Commands, tiny_checkpoint: Path, few_pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Undisturbed]:
    """The sweep of a size, run once."""

    @functools.cache
    def run(size: str) -> Undisturbed:
        cwd = tmp_path_factory.mktemp("undisturbed")
        command = arguments(SWEPT[size], tiny_checkpoint, few_pairs)
        ended = commands.run(command, cwd)
        assert ended.code == 0, ended.output
        figures = quality(records(latest_root(cwd)))
        assert len(figures) == RUNS[size] + 1
        assert all("quality/spearman" in metrics for metrics in figures.values())
        return Undisturbed(command, figures, ended.seconds)

    return run


@pytest.fixture(scope="session")
def two_sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`A`, the records of three runs and a baseline, and `B`, much the same to compare it with."""
    from tests.made_up_sweeps import SweepWriter

    folder = tmp_path_factory.mktemp("two_sweeps")
    for name, ms in (("A", 10.0), ("B", 12.0)):
        sweep = SweepWriter(folder / name, jobs=3)
        for layer in (1, 3, "final"):
            sweep.run(0.4, ms, layer=layer)
        sweep.baseline()
        path = folder / name / "sweep.json"
        tracking = {"enabled": True, "uri": f"sqlite:///{folder}/x.db", "artifacts": f"{folder}/a", "experiment": "e"}
        path.write_text(json.dumps({**json.loads(path.read_text()), "tracking": tracking, "id": name * 8}))
    return folder


@pytest.fixture
def copy(two_sweeps: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes a fresh copy of sweep `A`, always in the same place."""

    def fresh() -> Path:
        root = tmp_path / "sweep"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(two_sweeps / "A", root)
        return root

    return fresh


@pytest.fixture
def streams(capsys: pytest.CaptureFixture[str]) -> Streams:
    return Streams(capsys)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take seconds to make."""
    from rwkv_sweep.tracking.database import create

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    create(path)
    return path


@pytest.fixture(scope="module")
def database(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of a module, which use experiments of their own."""
    return Path(shutil.copy(empty_database, tmp_path_factory.mktemp("database")))
