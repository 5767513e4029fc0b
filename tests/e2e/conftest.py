"""A small model, a few pairs, and the command line as a user's shell would start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.commands import Commands, Conditions
from tests.search_path import LIMIT_S, search_path

Command = Callable[..., "subprocess.CompletedProcess[str]"]
MODULE = (sys.executable, "-m", "rwkv_sweep")


@pytest.fixture(scope="session")
def environment(repo_root: Path) -> dict[str, str]:
    """Of every process started here: this checkout, whether or not it is installed."""
    kept = {key: value for key, value in os.environ.items() if key not in ("HYDRA_FULL_ERROR", "MLFLOW_RUN_ID")}
    return {**kept, "PYTHONPATH": search_path(repo_root), "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}


@pytest.fixture(scope="session")
def started(environment: dict[str, str]) -> Command:
    """Run `python -m rwkv_sweep` with these arguments in `cwd`, from the start, imports and all."""

    def run(arguments: Sequence[str], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        cwd.mkdir(exist_ok=True)
        whole = {**environment, **env}
        return subprocess.run(
            [*MODULE, *arguments], cwd=cwd, env=whole, capture_output=True, text=True, timeout=LIMIT_S
        )

    return run


@pytest.fixture(scope="session")
def commands(environment: dict[str, str]) -> Iterator[Commands]:
    forked = Commands(environment)
    yield forked
    forked.close()


@pytest.fixture(scope="session")
def command(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """As `started`, in a process that has the imports behind it: four seconds less."""
    folder = tmp_path_factory.mktemp("streams")
    streams = Conditions(log=str(folder / "stdout"), errors=str(folder / "stderr"))

    def run(arguments: Sequence[str], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        ended = commands.run(list(arguments), cwd, environment=env, conditions=streams)
        return subprocess.CompletedProcess([*MODULE, *arguments], ended.code, ended.output, ended.errors)

    return run


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve narrow blocks, every one of which changes its input, in fp16."""
    from tests.small_models import small_lm

    folder = tmp_path_factory.mktemp("model") / "small"
    small_lm(num_blocks=12).half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs of three topics; those of label 1 share their topic."""
    topics = (
        ("The cat slept on the warm mat all day.", "A cat lay sleeping on the mat.", "Cats sleep a lot, he said."),
        ("Prices rose by 3 percent in May, officials said.", "In May prices went up.", "The bank kept its rates."),
        ("Rain is expected in the north tomorrow.", "Tomorrow the north will see rain.", "Snow fell on the hills."),
    )
    rows = ["sentence1\tsentence2\tlabel"]
    for number in range(24):
        own, other = topics[number % 3], topics[(number + 1) % 3]
        alike = number % 2 == 0
        second = own[1 + number % 4 // 2] if alike else other[number % 3]
        rows.append(f"{own[0]} No. {number}\t{second}\t{int(alike)}")
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def job(small_model: Path, pairs_file: Path) -> list[str]:
    """Overrides that make a run small."""
    return [
        "model=local",
        f"model.path={small_model}",
        "model.tokenizer=bytes",
        "dataset=pairs",
        f"dataset.path={pairs_file}",
        "device=cpu",
        "device.threads=1",
        "bootstrap=50",
        "measure.latency_pairs=3",
    ]


@pytest.fixture(scope="session")
def quality_only() -> list[str]:
    return ["measure.latency_pairs=0", "measure.throughput=false"]
