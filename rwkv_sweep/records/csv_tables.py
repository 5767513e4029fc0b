"""Tables as CSV for people, who open them in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def table_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The text of a CSV file. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow([spreadsheet_safe(cell) for cell in row])
    return text.getvalue()


def spreadsheet_safe(cell: object) -> object:
    """A cell that no spreadsheet runs: numbers stay numbers, also those written as text, such as a layer `-1`."""
    if not isinstance(cell, str):
        return cell
    # Before Python 3.13 the writer leaves a lone carriage return without quotes, where readers end the row.
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if cell.startswith(FORMULA_STARTS) and not _is_number(cell) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text
