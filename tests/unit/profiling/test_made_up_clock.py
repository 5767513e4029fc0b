"""The clock of `--jitter-clock`: here, and in processes that tests start."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jitter.sitecustomize import LONGEST_S, SHORTEST_S, TIE_S, VARIABLE, made_up_clock
from tests.search_path import search_path

READ = "import time; print(time.perf_counter(), time.perf_counter_ns(), time.monotonic() > 0)"


def steps(seed: int) -> list[float]:
    read = made_up_clock(seed)
    readings = [read() for _ in range(100)]
    return [later - earlier for earlier, later in itertools.pairwise(readings)]


def test_all_times_are_equal_or_random_and_the_same_for_a_seed() -> None:
    assert steps(0) == [TIE_S] * 99
    assert steps(1) == steps(1) != steps(2)
    assert max(steps(1)) > 10 * min(steps(1)) >= 10 * SHORTEST_S and max(steps(1)) <= LONGEST_S


def test_other_processes_have_it_too(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    environment = {**os.environ, "PYTHONPATH": search_path(repo_root)}
    read = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True)
    assert read.stdout.split() == [str(TIE_S), str(int(2 * TIE_S * 1e9)), "True"]
    del environment[VARIABLE]
    read = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True)
    assert read.stdout.split()[0] != str(TIE_S)
