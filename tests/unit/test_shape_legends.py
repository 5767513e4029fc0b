"""Every module whose names end in shapes (`x_TD`) says at its top what the letters stand for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "rwkv_sweep"
SUFFIX = re.compile(r"^[a-z_][a-z0-9_]*?_(?P<shape>[A-Z0-9]*[A-Z][A-Z0-9]*)$")


def shaped_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Variables, parameters and fields that end in a shape, with the letters of each; attributes of others are
    theirs."""
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
        if match := SUFFIX.match(name):
            yield name, re.sub(r"\d", "", match["shape"])


def unexplained(source: str) -> dict[str, str]:
    """Letters that no legend explains, each with a name that has it.

    The legend is what follows `Shapes:` above the first import: in the docstring, or in a comment where the docstring
    is a command's help.
    """
    top = source.split("\nfrom ", 1)[0].split("\nimport ", 1)[0]
    legend = top.partition("Shapes:")[2]
    letters: dict[str, str] = {}
    for name, shape in shaped_names(ast.parse(source)):
        for letter in shape:
            if not re.search(rf"\b{letter}\b", legend):
                letters.setdefault(letter, name)
    return letters


MODULES = [
    path.relative_to(PACKAGE).as_posix()
    for path in sorted(PACKAGE.rglob("*.py"))
    if any(shaped_names(ast.parse(path.read_text(encoding="utf-8"))))
]


def test_the_search_sees_modules_of_all_kinds() -> None:
    expected = {"embedding/pooling.py", "models/rwkv6/blocks.py", "ops/triton/residual.py", "stats/bootstrap.py"}
    assert expected <= set(MODULES) and len(MODULES) > 50


@pytest.mark.parametrize("module", MODULES)
def test_letters_of_shapes_are_explained_at_the_top(module: str) -> None:
    missing = unexplained((PACKAGE / module).read_text(encoding="utf-8"))
    assert not missing, f"{module} has no 'Shapes: ...' at its top for {missing}"


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ('"""Norms."""\nfrom x import y\nh_TD = 1', {"T": "h_TD", "D": "h_TD"}),
        ('"""Norms.\n\nShapes: T tokens.\n"""\nfrom x import y\ndef f(h_TD): pass', {"D": "h_TD"}),
        ('"""Norms.\n\nShapes: T tokens, D hidden size.\n"""\nfrom x import y\nh_TD: int', {}),
        ('"""Norms."""\n# Shapes: T tokens.\nimport y\nscale_T1 = 1', {}),
        ('"""Norms."""\nimport y\n# Shapes: T tokens.\nscale_T1 = 1', {"T": "scale_T1"}),
        ('"""The Tokens.\n\nShapes: Tokens.\n"""\nimport y\nscale_T1 = 1', {"T": "scale_T1"}),
        ('"""Constants and attributes of others."""\nimport y\nMAX_T = y.h_TD', {}),
    ],
)
def test_a_letter_without_a_legend_is_named(source: str, missing: dict[str, str]) -> None:
    assert unexplained(source) == missing
