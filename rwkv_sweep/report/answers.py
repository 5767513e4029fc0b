"""What the end of a sweep makes of its records: runs named and ranked, and the answer to its question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.records.results import Result
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.common.labels import run_labels, varied_keys
from rwkv_sweep.report.common.ranking import Ranking, rankings
from rwkv_sweep.report.common.statements import Answer, Plain, Records, Section
from rwkv_sweep.report.findings.cards import cards
from rwkv_sweep.report.findings.findings import Findings


def find(record: SweepRecord, results: Sequence[Result], folders: Sequence[Path]) -> Findings:
    """Everything that is concluded from the records of a sweep.

    Args:
        record: of the sweep. results: of all its runs and baselines. folders: of each, in the same order.
    """
    records = Records(results, folders, record.select)
    keys = varied_keys(results, record.swept)
    labels = run_labels(results, keys)
    ranked = rankings(records)
    answer = sweep_answer(record.report, records, ranked, record.swept)
    return Findings(records, keys, labels, ranked, answer, cards(results, ranked, labels))


def sweep_answer(report: str | None, records: Records, ranked: Sequence[Ranking], swept: Sequence[str]) -> Answer:
    """The answer of a sweep.

    Args:
        report: the research question of the sweep, None for any other.
        records: of all runs and baselines. ranked: of each set of pairs the runs with a Spearman.
        swept: keys, as typed.
    """
    if report == "quantization":
        from rwkv_sweep.report.quantization.answer import quantization_answer

        return quantization_answer(records.results)
    if report == "aggregation_overhead":
        from rwkv_sweep.report.aggregation.answer import aggregation_answer

        return aggregation_answer(records.results, records)
    if report == "paper":
        from rwkv_sweep.report.study.report import QUESTION, paper_answer

        return Answer(QUESTION, [Section("", [Plain(sentence) for sentence in paper_answer(records.results)])])
    if report == "generations":
        from rwkv_sweep.report.generations.answer import generations_answer

        return generations_answer(records, ranked, swept)
    from rwkv_sweep.report.plain_sweep.answer import plain_answer

    return plain_answer(records, ranked, swept)
