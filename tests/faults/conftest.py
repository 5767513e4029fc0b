"""A model and pairs so small that a run takes a fraction of a second."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.sweeps import RUNS, SWEPT, Commands, Undisturbed, arguments, latest_root, quality, records
from tests.search_path import search_path


@pytest.fixture(scope="session")
def fault_environment(repo_root: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("HYDRA_FULL_ERROR", "MLFLOW_RUN_ID")}
    return {**kept, "PYTHONPATH": search_path(repo_root), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


@pytest.fixture(scope="session")
def commands(fault_environment: dict[str, str]) -> Iterator[Commands]:
    started = Commands(fault_environment)
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
        assert all("quality/spearman" in each for each in figures.values())
        return Undisturbed(command, figures, ended.seconds)

    return run
