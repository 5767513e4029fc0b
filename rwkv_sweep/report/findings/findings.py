"""What the end of a sweep makes of its records, once, for the terminal, `summary.md` and the page alike."""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_sweep.report.common.ranking import Ranking
from rwkv_sweep.report.common.statements import Answer, Records
from rwkv_sweep.report.findings.cards import Card


@dataclass(frozen=True)
class Findings:
    """records: that all rests on. keys: in which the runs differ. labels: of each run, by its name. ranked: the runs by
    Spearman, for each set of pairs. answer, cards: as shown."""

    records: Records
    keys: list[str]
    labels: dict[str, str]
    ranked: list[Ranking]
    answer: Answer
    cards: list[Card]
