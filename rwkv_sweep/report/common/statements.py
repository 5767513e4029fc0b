"""What a sweep found, in a few statements. Terminal, `summary.md`, page and report all show these.

Each statement is a small record of the numbers it rests on and makes its sentence from these alone, so that a sentence
cannot claim what the numbers do not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rwkv_sweep.records.results import Result

NOTHING = "No run finished, so there is nothing to answer with."


class Statement(Protocol):
    """One bullet of an answer."""

    @property
    def text(self) -> str:
        """A sentence or two of plain text."""
        ...


@dataclass(frozen=True)
class Plain:
    """A statement without numbers of its own: what was not measured, or cannot be said."""

    sentence: str

    @property
    def text(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Section:
    """Statements on runs that belong together, the verdict first. name: what sets them apart; empty where one group."""

    name: str
    statements: list[Statement]


@dataclass(frozen=True)
class Records:
    """The records of a sweep and where they are. folders: of each result, in the same order. select: by what a run is
    chosen, and within which limits, as in the config."""

    results: Sequence[Result]
    folders: Sequence[Path]
    select: Mapping[str, object] = field(default_factory=dict)

    def folder(self, result: Result) -> Path | None:
        """The folder of one of these results; None where it is not known."""
        return next((path for own, path in zip(self.results, self.folders, strict=False) if own is result), None)


@dataclass(frozen=True)
class Answer:
    """question: in words that a reader asks; empty where there is nothing to answer."""

    question: str
    sections: list[Section]

    def measured(self) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics and tags of the statements that have such; with several sections, those of the first."""
        metrics: dict[str, float] = {}
        tags: dict[str, str] = {}
        for statement in self.sections[0].statements if self.sections else ():
            metrics |= getattr(statement, "answer_metrics", {})
            tags |= getattr(statement, "answer_tags", {})
        return metrics, tags

    def bullets(self) -> list[tuple[str, list[str]]]:
        """Name and sentences of each section."""
        return [(section.name, [statement.text for statement in section.statements]) for section in self.sections]
