"""Records of a Parquet file, of the columns asked for alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rwkv_sweep.errors import UserError, first_line

if TYPE_CHECKING:
    import pyarrow


def parquet_records(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row after its place. Columns that are not asked for are not read, whatever they hold.

    Where the file lacks a column, there is one record of all names without values, so that the caller can report what
    there is.

    Raises:
        UserError: (while iterating) what is no Parquet file, two columns of one name, or a value that cannot be read.
    """
    import pyarrow  # comes with datasets; needed for this one format
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            if repeated := [name for name in names if names.count(name) > 1]:
                raise UserError(f"{path}: there is more than one column {repeated[0]}")
            if not set(columns) <= set(names):
                yield "the schema", dict.fromkeys(names)
                return
            before = 0
            for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
                values = [_values(batch.column(name), name, before, path) for name in columns]
                for row, record in enumerate(zip(*values, strict=True), before + 1):
                    yield f"row {row}", dict(zip(columns, record, strict=True))
                before += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {error}") from error


def _values(column: pyarrow.Array, name: str, before: int, path: Path) -> list[Any]:
    """The values of a column of a batch, before which there were so many rows."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # bytes that are no text, a time beyond Python's
        for row, value in enumerate(column, before + 1):
            try:
                value.as_py()
            except (ValueError, OverflowError) as error:
                raise UserError(f"{path}, row {row}: {name} cannot be read: {first_line(error)}") from error
        raise
