"""SIGKILL at random moments: the same command with resume=true completes the sweep, and nothing is lost or doubled."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.faults.sweeps import Undisturbed, check_complete, latest_root

MOST_STARTS = 60


def complete(
    commands: Commands, arguments: list[str], cwd: Path, chance: random.Random, most_kills: int, most_records: int
) -> int:
    """Start the sweep again and again, killed at random moments, until it ends by itself; returns the kills.

    A moment is up to a second after a start has added some records, which is anywhere in a job, or up to ten seconds
    after the start itself, before, in or after the first jobs.
    """
    for kills in range(MOST_STARTS):
        records = chance.randint(0, most_records)
        kill_after = chance.uniform(0.0, 1.0 if records else 10.0) if kills < most_kills else None
        ended = commands.run(arguments, cwd, kill_after, records)
        if ended.code == 0:
            return kills
        assert ended.code == -9, ended.output
    raise AssertionError(f"not complete after {MOST_STARTS} starts")


def killed_sweep(commands: Commands, calm: Undisturbed, cwd: Path, seed: int, fixed: bool, most: int) -> int:
    """fixed: every start writes the same folder; otherwise each has its own, and finds the others' runs in MLflow."""
    arguments = [*calm.arguments, "resume=true", *(["hydra.sweep.dir=sweep"] if fixed else [])]
    # In a new folder the records of the reused runs are new ones, too.
    kills = complete(commands, arguments, cwd, random.Random(seed), most, 4 if fixed else len(calm.quality) - 1)
    check_complete(cwd, cwd / "sweep" if fixed else latest_root(cwd), calm.quality)
    return kills


@pytest.mark.parametrize(
    "fixed",
    [pytest.param(True, id="same folder"), pytest.param(False, id="new folders", marks=pytest.mark.faults)],
)
def test_a_few_kills(
    commands: Commands, undisturbed: Callable[[str], Undisturbed], tmp_path: Path, fixed: bool
) -> None:
    assert killed_sweep(commands, undisturbed("small"), tmp_path, 1, fixed, 2) >= 1


@pytest.mark.faults
def test_many_kills(commands: Commands, undisturbed: Callable[[str], Undisturbed], tmp_path: Path) -> None:
    kills, sweeps = 0, 0
    while kills < 30:
        kills += killed_sweep(commands, undisturbed("whole"), tmp_path / str(sweeps), sweeps, sweeps % 2 == 0, 10)
        sweeps += 1
        print(f"{kills} kills, {sweeps} sweeps complete", flush=True)
    print(f"{kills} kills over {sweeps} sweeps of 24 runs")
