"""The table of a sweep as Markdown: for a pull request, a notebook, the description of the parent run in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.records.results import PAGE_FILE, SUMMARY_FILE, SUMMARY_TABLE, Result
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.column_meanings import column_meanings
from rwkv_sweep.report.common.text import bullets, counted, escaped, paragraphs, table
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.summary import summary_rows
from rwkv_sweep.utils.files import write_atomically

MOST_REASONS = 20
"""Failures that are listed one by one; report.html has them all."""


def write_summary_table(findings: Findings, record: SweepRecord, root: Path) -> Path:
    """Write `summary.md` into the sweep's folder: what was typed, the answer, a row a run as on the terminal, what
    failed and why. Returns its path."""
    path = root / SUMMARY_TABLE
    write_atomically(path, summary_markdown(findings, record))
    return path


def summary_markdown(findings: Findings, record: SweepRecord) -> str:
    """The text of `summary.md`."""
    results = findings.records.results
    parts = [f"**{escaped(record.name)}**", _where(results)]
    if results:
        parts += [f"*{escaped(findings.answer.question)}*", *bullets(findings.answer)]
    if results:
        names, rows = summary_rows(results, record.swept)
        baselines = [number for number, result in enumerate(results) if result.kind == "baseline"]
        parts.append(table(names, rows, italic=baselines))
        kinds = "Rows in italics are baselines: no model." if baselines else ""
        parts.append(" ".join(filter(None, [escaped(column_meanings(names)), kinds])))
    wrong = [result for result in results if result.error is not None]
    for result in wrong[:MOST_REASONS]:
        parts.append(f"- {result.status} {escaped(result.name)}: {escaped((result.error or {}).get('message', ''))}")
    if len(wrong) > MOST_REASONS:
        parts.append(f"- and {counted(len(wrong) - MOST_REASONS, 'more run')}")
    parts.append(f"All parameters and metrics: `{SUMMARY_FILE}`; tables and charts: `{PAGE_FILE}`.")
    return paragraphs([part for part in parts if part])


def _where(results: Sequence[Result]) -> str:
    """On what machines, with which commit."""
    parts = []
    for tag in ("device_name", "commit"):
        values = list(dict.fromkeys(result.tags[tag] for result in results if tag in result.tags))
        parts.append(", ".join(f"{tag.split('_')[0]} {escaped(value[:60])}" for value in values))
    return "; ".join(filter(None, parts))
