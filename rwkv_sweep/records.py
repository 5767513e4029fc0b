"""Records with named fields from a TSV, CSV, JSON, JSONL or Parquet file, each with its place in the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".parquet")

Record = dict[str, Any]
Records = Iterator[tuple[str, Record]]
"""Each record after its place for messages, such as `line 7`."""


def read_records(path: Path) -> Records:
    """Records of a file, one at a time; the suffix says the format.

    TSV: UTF-8, a header line, no quoting. CSV: UTF-8, a header line, double quotes. JSONL: an object a line. JSON: a
    list of objects, or as JSONL. A byte order mark and blank lines are passed over.

    Raises:
        UserError: (while iterating) a file that cannot be read or is malformed, with the line.
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _parquet_records(path)
    return _delimited_records(path) if kind in (".tsv", ".csv") else _json_records(path)


def _delimited_records(path: Path) -> Records:
    # TSV knows no quoting: a double quote there is a character like any other, however unpaired.
    tabs = path.suffix.lower() == ".tsv"
    lines = _lines(path)
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
        raise UserError(f"{path}, line {rows.line_num}: not valid {'TSV' if tabs else 'CSV'}: {error}") from error


def _json_records(path: Path) -> Records:
    text = "".join(_lines(path)) if path.suffix.lower() == ".json" else ""
    items: Iterable[tuple[str, Any]]
    if text.lstrip().startswith("["):
        items = ((f"item {number}", item) for number, item in enumerate(_json(text, str(path)), 1))
    else:
        lines = enumerate(text.split("\n") if text else _lines(path), 1)
        items = ((f"line {n}", _json(line, f"{path}, line {n}")) for n, line in lines if line.strip())
    for place, item in items:
        if not isinstance(item, dict):
            raise UserError(f"{path}, {place}: {str(item)[:60]!r} is not an object with named fields")
        yield place, item


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from error


def _parquet_records(path: Path) -> Records:
    import pyarrow  # comes with datasets; needed for this one format
    from pyarrow.parquet import ParquetFile

    try:
        rows = (row for batch in ParquetFile(path).iter_batches() for row in batch.to_pylist())
        yield from ((f"row {index}", row) for index, row in enumerate(rows, 1))
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, with or without a byte order mark, split at line feeds only."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    bad = line[error.start : error.start + 4]
                    raise UserError(
                        f"{path}, line {number}: {bad!r} is not UTF-8, which the file must be in"
                    ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
