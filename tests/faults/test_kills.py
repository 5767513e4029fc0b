"""SIGKILL at random moments: the same command with resume=true completes the sweep, and nothing is lost or doubled."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.sweeps import Commands, Undisturbed, check_complete, latest_root

MOST_STARTS = 60


def complete(
    commands: Commands, arguments: list[str], cwd: Path, longest: float, chance: random.Random, most_kills: int
) -> int:
    """Start the sweep again and again, killed at random moments, until it ends by itself; returns the kills.

    longest: seconds before the first kill, at most. It grows while kills leave no time for a run, and shrinks again, so
    that most starts die in the midst of their jobs, however busy the machine is.
    """
    for kills in range(MOST_STARTS):
        before = len(list(cwd.rglob("result.json")))
        kill_after = chance.uniform(0.05, longest) if kills < most_kills else None
        ended = commands.run(arguments, cwd, kill_after)
        if ended.code == 0:
            return kills
        assert ended.code == -9, ended.output
        longest *= 0.8 if len(list(cwd.rglob("result.json"))) > before else 1.25
    raise AssertionError(f"not complete after {MOST_STARTS} starts")


def killed_sweep(commands: Commands, calm: Undisturbed, cwd: Path, seed: int, fixed: bool, most: int) -> int:
    """fixed: every start writes the same folder; otherwise each has its own, and finds the others' runs in MLflow."""
    arguments = [*calm.arguments, "resume=true", *(["hydra.sweep.dir=sweep"] if fixed else [])]
    kills = complete(commands, arguments, cwd, 0.4 * calm.seconds, random.Random(seed), most)
    check_complete(cwd, cwd / "sweep" if fixed else latest_root(cwd), calm.quality)
    return kills


@pytest.mark.parametrize("fixed", [True, False], ids=["same folder", "new folders"])
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
