"""Records of a file or of the hub to checked sentence pairs in columns."""

from __future__ import annotations

import contextlib
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

import numpy as np

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.readers import Record, Records
from rwkv_sweep.data.text_column import ROWS_AT_A_TIME, Texts
from rwkv_sweep.errors import UserError, shown

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""A number as JSON, CSV and every other program write it. Python's own reading takes `1_0` for 10, and digits of any
script."""


@dataclass(frozen=True)
class Pairs:
    """Checked pairs of a file or a hub's split: texts that are not blank, labels that are finite, float64 [P]."""

    first: Texts
    second: Texts
    labels: np.ndarray

    def rows(self, start: int, end: int) -> Pairs:
        """Those from `start` up to `end`."""
        return Pairs(self.first[start:end], self.second[start:end], self.labels[start:end])

    def joined(self, other: Pairs) -> Pairs:
        """These, then the other's."""
        return Pairs(self.first + other.first, self.second + other.second, np.append(self.labels, other.labels))


def checked_pairs(records: Records, cfg: DatasetConfig, source: str) -> Pairs:
    """Read and check rows one at a time into columns.

    Args:
        source: where the records come from, for messages.

    Raises:
        UserError: a column that is not there, a row that cannot be used, or no rows at all.
    """
    columns: tuple[list[Texts], list[Texts]] = ([], [])
    labels = array("d")
    rows = _checked_rows(records, cfg, source, labels)
    while part := list(islice(rows, ROWS_AT_A_TIME)):
        for column, texts in zip(columns, zip(*part, strict=True), strict=True):
            column.append(Texts.of(texts))
    if not labels:
        raise UserError(f"{source} has no rows")
    first, second = (Texts.joined(column) for column in columns)
    return Pairs(first, second, np.array(labels))


def _checked_rows(records: Records, cfg: DatasetConfig, source: str, labels: array[float]) -> Iterator[tuple[str, str]]:
    """The two sentences of each record; its label goes to `labels`."""
    for place, record in records:
        require_columns(record, cfg, source)
        texts = []
        for column in (cfg.sentence1, cfg.sentence2):
            text = record[column]
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"{source}, {place}: {column} is {shown(text)}, valid is text that is not blank")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{source}, {place}: {column} is not valid Unicode: {shown(text)} ({error})") from error
            texts.append(text)
        labels.append(_number(record[cfg.label], f"{source}, {place}: {cfg.label}"))
        yield texts[0], texts[1]


def _number(value: object, what: str) -> float:
    """A label as a float. Blanks around a number in text mean nothing; a comma, `_`, `0x` and words are refused."""
    number = math.nan
    if isinstance(value, (bool, int, float, Decimal)):
        with contextlib.suppress(OverflowError):
            number = float(value)
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip(" \t")):
        number = float(value)
    if not math.isfinite(number):
        raise UserError(f"{what} is {shown(value)}, valid is a finite number")
    return number


def require_columns(record: Record, cfg: DatasetConfig, source: str) -> None:
    """Raises UserError unless a record of `source` has the columns that `cfg` names."""
    for key, column in (("sentence1", cfg.sentence1), ("sentence2", cfg.sentence2), ("label", cfg.label)):
        if column not in record:
            raise UserError(f"dataset.{key}={column}: {source} has no such column, there are {', '.join(record)}")


def hub_records(cfg: DatasetConfig, spec: str) -> Records:
    """Rows of a split (or slice) of the hub's dataset `cfg.id`.

    Raises:
        UserError: (while iterating) it cannot be had.
    """
    import datasets

    columns = {cfg.sentence1, cfg.sentence2, cfg.label}
    try:
        data = datasets.load_dataset(cfg.id, cfg.subset, revision=cfg.revision, split=spec)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        named = f"dataset.task={cfg.task} " if cfg.task is not None else ""
        split = spec.partition("[")[0]
        raise UserError(
            f"{named}dataset.id={cfg.id} dataset.subset={cfg.subset} dataset.splits={spec} cannot be had from the hub "
            f"({reason}): offline, set dataset.path to a folder with one file per split, such as {split}.tsv with the "
            f"columns {cfg.sentence1}, {cfg.sentence2} and {cfg.label}, or the hub's own {split}.jsonl.gz or "
            f"{split}-00000-of-00001.parquet of datasets/{cfg.id}, or take dataset=embedded"
        ) from error
    if columns <= set(data.column_names):  # what nobody asked for may not even be readable
        data = data.select_columns(sorted(columns))
    yield from ((f"row {index}", row) for index, row in enumerate(data, 1))
