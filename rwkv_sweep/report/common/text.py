"""Markdown and numbers as the reports show them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from rwkv_sweep.records.csv_tables import table_text
from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.statements import Answer
from rwkv_sweep.stats.intervals import Interval

ABSENT = "n/a"

# An underscore within a word, or a bracket that no link follows, is no markup: left alone, the text reads better.
_SPECIAL = re.compile(r"([\\`*<>|~$]|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\][(\[]))")


def escaped(text: object) -> str:
    """`text` as Markdown that shows it letter by letter, on one line; fit for a table's cell."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], italic: Collection[int] = ()) -> str:
    """A Markdown table: the first column to the left, all others, which are numbers, to the right. Escapes cells.

    italic: rows, from 0, whose first cell is in italics.
    """
    rule = [":--"] + ["--:"] * (len(header) - 1)
    cells = [[escaped(cell) for cell in row] for row in rows]
    for number in italic:
        cells[number][0] = f"*{cells[number][0]}*"
    lines = [[escaped(cell) for cell in header], rule, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def paragraphs(parts: Sequence[str]) -> str:
    """Paragraphs, with the items of a list on lines next to each other."""
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        text += ("" if not text else "\n" if before.startswith("- ") and part.startswith("- ") else "\n\n") + part
    return text + "\n"


def with_interval(interval: Interval | None, form: str = ".3f") -> str:
    """`value [lo, hi]`, or n/a."""
    if interval is None:
        return ABSENT
    return f"{interval.value:{form}} [{interval.lo:{form}}, {interval.hi:{form}}]"


def formatted(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)


def listed(words: Sequence[str], between: str = ",") -> str:
    """`a`, `a and b`, `a, b and c`; with another sign between them, for words that contain commas: `a, b; c, d`."""
    if between != ",":
        return f"{between} ".join(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def csv_text(
    results: Sequence[Result],
    labels: Mapping[str, tuple[str, str]],
    columns: Mapping[str, Callable[[Result], object]],
) -> str:
    """A row for each run and baseline as CSV: name, label and group, what it was, every metric, further columns.

    labels: label and group by the run's name; a run without one goes by its name. columns: further ones, by name.
    """
    params = list(dict.fromkeys(key for result in results for key in result.params))
    metrics = list(dict.fromkeys(key for result in results for key in result.metrics))
    rows = []
    for result in results:
        label, group = labels.get(result.name, (result.name, "")) if result.kind == "model" else (result.name, "")
        row: list[object] = [result.name, label, group, result.kind, result.status]
        row += [result.params.get(key, "") for key in params]
        row += [result.metrics.get(key, "") for key in metrics]
        rows.append([*row, *(column(result) for column in columns.values())])
    return table_text(["name", "label", "group", "kind", "status", *params, *metrics, *columns], rows)


def counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def interval_text(interval: Interval, form: str = ".3f") -> str:
    """`95 % interval 0.364 to 0.513`."""
    return f"95 % interval {interval.lo:{form}} to {interval.hi:{form}}"


def times(ratio: Interval, of: str) -> str:
    """`1.77 times the speed of fp32 (1.70 to 1.84)`."""
    return f"{ratio.value:.2f} times the speed of {of} ({ratio.lo:.2f} to {ratio.hi:.2f})"


FEW = 4


def first_few(words: Sequence[str]) -> str:
    """`a, b and c`; of more than four the first ones, and how many more there are. Words with commas in them are set
    apart by semicolons."""
    shown = list(words) if len(words) <= FEW else [*words[: FEW - 1], f"{len(words) - FEW + 1} more"]
    if any("," in word for word in words) and len(words) > 1:
        return "; ".join([*shown[:-1], f"and {shown[-1]}"])
    return listed(shown)


def bullets(answer: Answer) -> list[str]:
    """An answer as Markdown: a paragraph that names each section, then its statements as a list."""
    parts = []
    for name, sentences in answer.bullets():
        parts += [f"With {escaped(name)}:"] if name else []
        parts += [f"- {escaped(sentence)}" for sentence in sentences]
    return parts
