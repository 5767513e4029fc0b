"""The order of the packages: imports go one way, between packages and between modules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import layout

ORDER = [
    "api",
    "cli",
    "sweep",
    "report",
    "evaluation",
    "profiling",
    "embedding",
    "models",
    "ops",
    "tracking",
    "data",
    "hardware",
    "records",
    "config",
    "stats",
    "utils",
]
"""Packages, those first that may import the ones after them."""
ANYWHERE = {"errors", "version"}


def test_imports_go_one_way(repo_root: Path) -> None:
    assert layout.faults(repo_root / "rwkv_sweep", ORDER, ANYWHERE) == []


def test_every_package_says_what_belongs_there(repo_root: Path) -> None:
    inits = sorted((repo_root / "rwkv_sweep").rglob("__init__.py"))
    assert len(inits) > len(ORDER)
    assert [path for path in inits if not path.read_text(encoding="utf-8").startswith('"""')] == []


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("stats/bootstrap.py", "from rwkv_sweep.report import summary", "which lies above it"),
        ("utils/files.py", "def f():\n    import rwkv_sweep.cli.sweep", "which lies above it"),
        ("models/rwkv6/blocks.py", "from rwkv_sweep.models.loading import load_model", "of a package it lies in"),
        ("data/pairs.py", "from rwkv_sweep.data.splits import load_splits", "modules import each other: "),
        ("another.py", "", "another.py lies at the top"),
        ("another/__init__.py", "from rwkv_sweep.utils import files", "another has no place in the order"),
    ],
)
def test_what_breaks_the_order_is_found(repo_root: Path, tmp_path: Path, module: str, line: str, message: str) -> None:
    package = tmp_path / "rwkv_sweep"
    shutil.copytree(repo_root / "rwkv_sweep", package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    path = package / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n\n{line}\n")
    assert any(message in fault for fault in layout.faults(package, ORDER, ANYWHERE))
