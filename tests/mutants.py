"""What `make mutants` found, as a table: python -m tests.mutants [--sample N]

A mutant is the program with one small change. It is killed if a test fails, and survives if none does.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("mutants")
SURVIVED = 0
UNTESTED = (5, 33)
"""pytest's exit code where it ran no test, and mutmut's where no test calls the function."""


@dataclass(frozen=True)
class Counts:
    """Mutants of one module that were run: how many, and those that no test noticed."""

    module: str
    all: int
    survived: int
    untested: int

    @property
    def killed(self) -> float:
        return 1 - (self.survived + self.untested) / self.all


def counts(folder: Path) -> Iterator[Counts]:
    """Of each module that mutmut has run mutants of."""
    for path in sorted(folder.rglob("*.py.meta")):
        ended = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
        codes = [code for code in ended if code is not None]
        if codes:
            module = path.relative_to(folder).as_posix().removesuffix(".meta")
            untested = sum(code in UNTESTED for code in codes)
            yield Counts(module, len(codes), codes.count(SURVIVED), untested)


def sample(folder: Path, size: int) -> Iterator[str]:
    """Names of at most `size` mutants of each module; the same ones each time."""
    for path in sorted(folder.rglob("*.py.meta")):
        names = sorted(json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"])
        yield from random.Random(0).sample(names, min(size, len(names)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="print names of N mutants of each module instead")
    size = parser.parse_args().sample
    if size is not None:
        print(*sample(FOLDER, size))
        return
    rows = list(counts(FOLDER))
    total = Counts("all", *(sum(getattr(row, name) for row in rows) for name in ("all", "survived", "untested")))
    print("| module | mutants | survived | without a test | killed |\n|---|---|---|---|---|")
    for row in [*rows, total] if rows else []:
        print(f"| `{row.module}` | {row.all} | {row.survived} | {row.untested} | {row.killed:.0%} |")


if __name__ == "__main__":
    main()
