"""Markdown and numbers as the reports show them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rwkv_sweep.evaluate import Interval

ABSENT = "n/a"

# An underscore within a word, or a bracket that no link follows, is no markup: left alone, the text reads better.
_SPECIAL = re.compile(r"([\\`*<>|~$]|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\][(\[]))")


def escaped(text: object) -> str:
    """`text` as Markdown that shows it letter by letter, on one line; fit for a table's cell."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, all others, which hold numbers, to the right. Escapes cells."""
    rule = [":--"] + ["--:"] * (len(header) - 1)
    lines = [[escaped(cell) for cell in header], rule, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(interval: Interval | None, form: str = ".3f") -> str:
    """`value [lo, hi]`, or n/a."""
    if interval is None:
        return ABSENT
    return f"{interval.value:{form}} [{interval.lo:{form}}, {interval.hi:{form}}]"


def number(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
