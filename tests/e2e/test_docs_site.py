"""The documentation builds as make docs builds it, alone, and not with a broken link."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("from_config", "from_run", "encode", "encode_layers", "encode_query", "similarity")
"""What a reader looks up, some of it inherited."""


def built(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """The site, as make docs builds it."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: make docs installs it")
    dry = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True).stdout
    (arguments,) = re.findall(r"python (-m mkdocs build .*)", dry)
    return subprocess.run(
        [sys.executable, *arguments.split(), "--site-dir", str(site)],
        cwd=root,
        capture_output=True,
        text=True,
        env={"NO_MKDOCS_2_WARNING": "1"},
    )


def test_the_site_builds_without_warnings_and_asks_nothing_of_a_network(tmp_path: Path) -> None:
    ended = built(ROOT, tmp_path)
    assert ended.returncode == 0, ended.stderr
    pages = list(tmp_path.glob("*.html"))
    assert {"index.html", "configuration.html", "limits.html", "model_card.html"} <= {page.name for page in pages}
    assert all(f'id="rwkv_sweep.api.encoder.Encoder.{name}"' in (tmp_path / "api.html").read_text() for name in SHOWN)
    for page in pages:
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>", page.read_text())
        assert not fetched, f"{page.name} fetches {fetched}"


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "mkdocs.yml",
        "docs",
        "examples",
        "pretraining/README.md",
        "rwkv_sweep/assets/README.md",
        "rwkv_sweep/__init__.py",
        "rwkv_sweep/errors.py",
        "rwkv_sweep/api",
        "rwkv_sweep/evaluation",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    with (tmp_path / "README.md").open("a") as file:
        file.write("[one](docs/nothing.md), [two](docs/limits.md#nothing)\n")
    ended = built(tmp_path, tmp_path / "site")
    assert ended.returncode != 0 and "'nothing.md'" in ended.stderr and "'#nothing'" in ended.stderr
