"""Records with named fields from a TSV, CSV, JSON, JSONL or Parquet file, each with its place in the file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rwkv_sweep.data.json_reader import json_records
from rwkv_sweep.data.parquet_reader import parquet_records
from rwkv_sweep.data.text_lines import GZIP, text_lines
from rwkv_sweep.errors import UserError

TEXT_SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
VALID_SUFFIXES = f"{', '.join(SUFFIXES)}, and but for the last the same with {GZIP}"
"""For messages."""

_LONGEST_FIELD = 2**31 - 1
"""Characters of a field in a CSV or TSV file; Python's own limit is 131,072, and no other format has one."""

Record = dict[str, Any]
Records = Iterator[tuple[str, Record]]
"""Each record after its place for messages, such as `line 7`."""


def split_suffix(path: Path) -> tuple[str, str]:
    """Name and format of a file, as `("test", ".jsonl")` of `test.jsonl.gz`; the format is empty for unknown kinds."""
    plain = Path(path.name[: -len(GZIP)]) if path.name.lower().endswith(GZIP) else Path(path.name)
    valid = SUFFIXES if plain.name == path.name else TEXT_SUFFIXES
    kind = plain.suffix.lower()
    return (plain.stem, kind) if kind in valid else (path.stem, "")


def read_records(path: Path, columns: Sequence[str]) -> Records:
    """Records of a file, one at a time; the suffix says the format.

    TSV: UTF-8, a header line, no quoting. CSV: UTF-8, a header line, double quotes. JSONL: an object a line. JSON: a
    list of objects, or as JSONL. All of these may be compressed (`.gz`). A byte order mark and blank lines are passed
    over. No format may name a column twice.

    Args:
        path: the file.
        columns: those that will be used; records of Parquet hold no others.

    Raises:
        UserError: (while iterating) a file that cannot be read or is malformed, with the line.
    """
    _, kind = split_suffix(path)
    if kind == ".parquet":
        return parquet_records(path, columns)
    if kind in (".tsv", ".csv"):
        return _delimited_records(path, tabs=kind == ".tsv")
    return json_records(path, lines_only=kind == ".jsonl")


def _delimited_records(path: Path, tabs: bool) -> Records:
    # TSV knows no quoting: a double quote there is a character like any other, however unpaired.
    csv.field_size_limit(_LONGEST_FIELD)
    lines = text_lines(path)
    rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)
    header: list[str] = []
    try:
        for row in rows:
            if not row:
                continue
            if not header:
                header = row
                if repeated := [column for column in header if header.count(column) > 1]:
                    raise UserError(f"{path}: the header names the column {repeated[0]} more than once")
                continue
            if len(row) != len(header):
                shown = f"{len(row)} fields, but the header has {len(header)}: {row[0][:60]!r}..."
                raise UserError(f"{path}, line {rows.line_num}: {shown}")
            yield f"line {rows.line_num}", dict(zip(header, row, strict=True))
    except csv.Error as error:
        reason = str(error)
        if reason.startswith("new-line character"):
            reason = "a carriage return within a field; lines must end in LF or CR LF, or all of them in CR"
        raise UserError(f"{path}, line {rows.line_num}: not valid {'TSV' if tabs else 'CSV'}: {reason}") from error
