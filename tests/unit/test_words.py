"""Words and names that the project has given up for those of its field, or for names that say what is held."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = ("rwkv_sweep", "hydra_plugins", "tests", "benchmarks", "pretraining", "docs")
NAMES = {"found", "each", "told"}
"""Of variables and parameters: they say nothing of what is held. Also before a shape (`found_SD`)."""
WORDS = re.compile(
    r"\b(turn by turn|disputed|told|warm model|naive arm|foreign tokenizer|tak(?:es?|en|ing) over|took over"
    r"|mend(?:s|ed|ing)?|br(?:ings?|ought|inging) in|heed(?:s|ed|ing)?|rows in 8 bits|offsets_B1|arms?)\b",
    re.IGNORECASE,
)
PROSE = (
    "*.md",
    "docs/*.md",
    "conf/**/*.yaml",
    "rwkv_sweep/**/*.py",
    "rwkv_sweep/assets/report/*",
    "rwkv_sweep/assets/*.md",
)
EXCEPTIONS = {
    "docs/log.md": WORDS,  # it keeps its history
    "CHANGELOG.md": re.compile("arm"),  # names what was renamed
    "rwkv_sweep/config/renamed.py": re.compile("arm"),
}
SCRIPT_NAME = re.compile(r"\b(?:const|let|of|function) +(found|each|told)\b|[(,] *(found|each|told)\b *(?:[,)]|=>)")


def names_given_up(text: str) -> list[str]:
    """Variables and parameters of a Python source under such a name, with their lines."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        stored = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else ""
        name = node.arg if isinstance(node, ast.arg) else stored
        if name and re.sub("_[A-Z0-9]+$", "", name) in NAMES:
            lines.append(f"{node.lineno}: {name}")  # type: ignore[attr-defined]
    return lines


def words_given_up(text: str, allowed: re.Pattern[str] | None = None) -> list[str]:
    """Lines of a text that hold such a word."""
    return [
        f"{number}: {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in WORDS.finditer(line)
        if allowed is None or not allowed.fullmatch(match[0])
    ]


def files(root: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from (path for path in sorted(root.glob(pattern)) if path.is_file())


def test_names_say_what_is_held(repo_root: Path) -> None:
    paths = [*files(repo_root, *(f"{folder}/**/*.py" for folder in SOURCES))]
    lines = [f"{path}:{line}" for path in paths for line in names_given_up(path.read_text(encoding="utf-8"))]
    assert len(paths) > 400 and lines == []


def test_names_of_scripts_say_what_is_held(repo_root: Path) -> None:
    paths = [*files(repo_root, "rwkv_sweep/assets/report/*.js")]
    lines = [
        f"{path.name}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if SCRIPT_NAME.search(line) and not line.lstrip().startswith("//")
    ]
    assert len(paths) > 10 and lines == []


def test_texts_use_the_words_of_the_field(repo_root: Path) -> None:
    paths = [*files(repo_root, *PROSE)]
    lines = []
    for path in paths:
        name = path.relative_to(repo_root).as_posix()
        lines += [f"{name}:{line}" for line in words_given_up(path.read_text(encoding="utf-8"), EXCEPTIONS.get(name))]
    assert len(paths) > 400 and lines == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("found = 1", "1: found"),
        ("def f(x, told):\n    pass", "1: told"),
        ("total = sum(each for each in (1, 2))", "1: each"),
        ("found_SD = 1", "1: found_SD"),
        ("if (told := 1):\n    pass", "1: told"),
        ("what_is_found = 1", None),
        ("print(found)", None),
    ],
)
def test_a_name_given_up_is_found(text: str, line: str | None) -> None:
    assert names_given_up(text) == ([] if line is None else [line])


@pytest.mark.parametrize("text", ["const found = 1;", "for (const each of runs) {", "runs.map((each) => each.name)"])
def test_a_name_given_up_is_found_in_a_script(text: str) -> None:
    assert SCRIPT_NAME.search(text) and not SCRIPT_NAME.search(text.replace("found", "runs").replace("each", "run"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The rate is told in a table.", "told"),
        ("Finished runs are taken over.", "taken over"),
        ("Pairs are timed Turn by turn.", "Turn by turn"),
        ("The arms of an experiment", "arms"),
        ("An alarm, a recommended meaning and an untold story", None),
    ],
)
def test_a_word_given_up_is_found(text: str, word: str | None) -> None:
    assert words_given_up(text) == ([] if word is None else [f"1: {word}"])
