"""Kinds of path against keys that take one: refused in one line before anything is written, or the run goes on.

By default two keys meet every kind, and every key those that have once been taken wrongly; `covering` has the rest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import SILENCE_S, Commands
from tests.faults.covering import matrix
from tests.odd_paths import ABSENT, IMPOSSIBLE, PERMISSIONS

pytestmark = pytest.mark.faults

QUICK = ["layer=3", "measure.latency_pairs=0", "measure.throughput=false", "bootstrap=20", "device=cpu"]


@dataclass(frozen=True)
class Key:
    """A key that takes a path.

    Attributes:
        override: with `PATH` where the path belongs.
        needs: further overrides, without which the key is not read.
        is_made: whether what is not there is made.
        multirun: whether the command is a sweep.
        is_cache: whether runs go on without what cannot be written.
    """

    override: str
    needs: tuple[str, ...] = ()
    is_made: bool = False
    multirun: bool = False
    is_cache: bool = False

    @property
    def name(self) -> str:
        return self.override.partition("=")[0]

    @property
    def id(self) -> str:
        return " ".join(["-m"] * self.multirun + [self.name, *self.needs[:1]])


KEYS = [
    Key("dataset.path=PATH"),
    Key("model.path=PATH", ("model=local", "model.tokenizer=bytes")),
    Key("model.path=PATH", ("model=hf",)),
    Key("model.tokenizer=PATH", ("model=random",)),
    Key("model.foreign_tokenizer=PATH"),
    Key("word_vectors.path=PATH"),
    Key("pooling.corpus=PATH", ("pooling=idf",)),
    Key("store.path=PATH", is_made=True, is_cache=True),
    Key("tracking.artifacts=PATH", is_made=True),
    Key("tracking.uri=sqlite:///PATH", is_made=True),
    Key("hydra.run.dir=PATH", is_made=True),
    Key("hydra.sweep.dir=PATH", is_made=True, multirun=True),
    Key("dataset.path=PATH", multirun=True),
]

UNCACHED = {"a folder without permission", "below a folder without permission", "in a read-only folder"}
"""Where a cache cannot be, and a run goes on without it."""

KINDS = {**IMPOSSIBLE, **PERMISSIONS, **ABSENT}
HARD = (
    "below a file",
    "a name of 300 bytes",
    "a pipe",
    "a loop of links",
    "a folder without permission",
    "in a read-only folder",
    "a NUL",
    "not UTF-8",
)
"""Kinds of path that some key has once taken wrongly. All kinds meet all keys' checks, without a command, in
tests/unit/config/test_path_values.py."""
WITH_ALL = [key for key in KEYS if key.name in ("dataset.path", "hydra.run.dir") and not key.multirun]
"""A key of what is read, and one of what is written."""


@pytest.fixture(scope="module")
def bound(fault_environment: dict[str, str]) -> Iterator[Commands]:
    """Commands that permissions bind: the superuser's right to pass over them is given up."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("the superuser passes over permissions, and there is no setpriv to give that up")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
    started = Commands(fault_environment, prefix, SILENCE_S)
    yield started
    started.close()


@matrix(
    {"key": KEYS, "kind": list(KINDS)},
    failed_before=[*((None, kind) for kind in HARD), *((key, None) for key in WITH_ALL)],
)
def test_kinds_of_path_for_every_key(bound: Commands, few_pairs: Path, tmp_path: Path, key: Key, kind: str) -> None:
    place, cwd = tmp_path / "place", tmp_path / "run"
    place.mkdir()
    _, _, value = key.override.replace("PATH", KINDS[kind](place)).partition("=")
    tracking = [] if key.name.startswith("tracking") else ["tracking.enabled=false"]
    data = ["dataset=pairs", *([] if key.name == "dataset.path" else [f"dataset.path={few_pairs}"])]
    # A file of word vectors is read where they are a baseline.
    baselines = [] if key.name == "word_vectors.path" else ["baselines=[word_overlap]"]
    more = [*key.needs, *data, *baselines, *tracking, f"{key.name}='{value}'"]
    arguments = [*(["-m"] if key.multirun else []), *QUICK, *more]
    there = listing(place)
    goes_on = (key.is_made and kind in ABSENT) or (key.is_cache and kind in UNCACHED)
    ended = bound.run(arguments, cwd)  # one that waits for a pipe's other end is killed, which is no exit code 2
    assert "Traceback" not in ended.output, ended.output
    if goes_on:
        assert ended.code == 0, ended.output
        return
    errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    assert ended.code == 2 and len(errors) == 1 and len(errors[0]) < 700, ended.output
    # What is wrong within a file of weights is reported of the file.
    named = str(place / "file.txt") if (key.name, kind) == ("model.path", "a file") else key.name
    assert named in errors[0] and errors[0].isprintable(), errors[0]
    assert listing(place) == there and [path.name for path in cwd.iterdir()] == ["output.txt"]


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))
