"""The reference of all keys and options is whole, and agrees with the schemas, checks and YAML files."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rwkv_sweep.cli.reference import keys, meanings, reference, schemas
from rwkv_sweep.config.hydra_store import conf_dir
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.config.validation import CHOICES, RANGES, range_text

ALL_KEYS = [(schema, key) for schema in (RunConfig, *schemas().values()) for key in keys(schema)]


@pytest.fixture(scope="module")
def page() -> str:
    return reference()


@pytest.mark.parametrize(("schema", "key"), ALL_KEYS, ids=lambda value: getattr(value, "__name__", value))
def test_every_key_has_a_meaning(schema: type, key: str) -> None:
    meaning = meanings(schema).get(key, "")
    assert re.search(r"\w{2}", meaning), f"{schema.__name__}'s docstring has no line `{key}: its meaning`"


def test_a_key_without_a_meaning_is_found_and_its_neighbours_words_are_not_taken_for_it() -> None:
    @dataclass
    class Half:
        """What it is.

        given: this one is,
        over two lines; other words: none.

        lacking is named here, without a meaning.
        """

        given: int = 0
        lacking: int = 0

    assert meanings(Half) == {"given": "this one is, over two lines; other words: none."}


def test_the_page_in_docs_is_what_is_generated(page: str, repo_root: Path) -> None:
    written = (repo_root / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == page, "run: rwkv-sweep reference --write docs/configuration.md"


def test_the_command_prints_and_writes_it(page: str, repo_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rwkv_sweep", "reference"]
    assert subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True).stdout == page
    subprocess.run([*command, "--write", str(tmp_path / "page.md")], cwd=repo_root, check=True)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page


def test_every_key_and_every_option_has_a_row(page: str) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", page, re.MULTILINE)
    named = [name for name, _ in rows]
    sections = [("", RunConfig), *((f"{name}.", schema) for name, schema in schemas().items())]
    assert {prefix + key for prefix, schema in sections for key in keys(schema)} <= set(named)
    for path in conf_dir().glob("*/**/*.yaml"):
        if path.parent.name in ("job_logging", "hydra_logging"):
            continue  # Hydra's own groups, whose default is set here
        shown = f"+experiment={path.stem}" if path.parent.name == "experiment" else path.stem
        assert shown in named or f"### `{shown}`" in page, f"{path} is not in the page"
    for name, cells in rows:
        assert re.match(r"\w", cells.replace("`", "")), f"{name} has no description: begin its file with a comment"


def test_valid_values_and_defaults_are_shown(page: str) -> None:
    for key, valid in CHOICES.items():
        assert re.search(
            rf"^\| `{re.escape(key)}` .*{re.escape(', '.join(f'`{choice}`' for choice in valid))}", page, re.M
        )
    for key in RANGES:
        assert re.search(rf"^\| `{re.escape(key)}` .* {re.escape(range_text(key))} \|$", page, re.MULTILINE)
    assert "| `tracking.uri` | str | `sqlite:///mlruns/mlflow.db` |" in page
    assert "Chosen by `model=tiny`, the default" in page
