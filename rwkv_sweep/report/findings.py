"""What the end of a sweep makes of its records, once, for the terminal, `summary.md` and the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rwkv_sweep.report.answers import Answer, Records, sweep_answer
from rwkv_sweep.report.cards import Card, cards
from rwkv_sweep.report.labels import run_labels, varied_keys
from rwkv_sweep.report.ranking import Ranking, rankings
from rwkv_sweep.results import Result
from rwkv_sweep.sweep_record import SweepRecord


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


def find(record: SweepRecord, results: Sequence[Result], folders: Sequence[Path]) -> Findings:
    """Everything that is concluded from the records of a sweep.

    Args:
        record: of the sweep. results: of all its runs and baselines. folders: of each, in the same order.
    """
    records = Records(results, folders)
    keys = varied_keys(results, record.swept)
    labels = run_labels(results, keys)
    ranked = rankings(records)
    answer = sweep_answer(record.report, records, ranked, record.swept)
    return Findings(records, keys, labels, ranked, answer, cards(results, ranked, labels))
