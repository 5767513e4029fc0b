"""Malformed pair files by the hundred: a clear error in one line or sound pairs, never another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rwkv_sweep.config import DatasetConfig
from rwkv_sweep.dataset import load_splits
from tests.faults.fuzzing import CELL, VALUE, damaged, one_line_or, quietly

SUFFIX = st.sampled_from([".tsv", ".csv", ".jsonl", ".json", ".parquet"])


def check_pairs(path: Path) -> None:
    cfg = DatasetConfig(name="pairs", source="file", path=str(path), splits=["all"], word_split="punctuation")
    splits = one_line_or(lambda: load_splits(cfg))
    if splits is None:
        return
    (split,) = splits
    assert len(split.sentences1) == len(split.sentences2) == len(split.labels) >= 2
    assert np.isfinite(split.labels).all() and len(set(split.labels.tolist())) > 1
    assert all(text.strip() for text in split.sentences)


@quietly
@given(suffix=SUFFIX, content=st.binary(max_size=200))
def test_any_bytes_as_pairs(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(content)
    check_pairs(path)


@quietly
@given(
    suffix=st.sampled_from([".tsv", ".csv"]),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=5),
    header=st.sampled_from(
        [["sentence1", "sentence2", "label"], ["sentence1", "label"], ["label", "label", "sentence1"]]
    ),
)
def test_any_cells_as_pairs(tmp_path: Path, suffix: str, rows: list[list[str]], header: list[str]) -> None:
    path = tmp_path / f"pairs{suffix}"
    separator = "\t" if suffix == ".tsv" else ","
    lines = [separator.join(cells) for cells in [header, *rows]]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    check_pairs(path)


@quietly
@given(
    whole=st.booleans(),
    records=st.lists(
        st.one_of(VALUE, st.fixed_dictionaries({"sentence1": VALUE, "sentence2": VALUE, "label": VALUE})), max_size=4
    ),
)
def test_any_json_as_pairs(tmp_path: Path, whole: bool, records: list[Any]) -> None:
    path = tmp_path / ("pairs.json" if whole else "pairs.jsonl")
    path.write_text(json.dumps(records) if whole else "\n".join(map(json.dumps, records)), encoding="utf-8")
    check_pairs(path)


@quietly
@given(data=st.data())
def test_damaged_parquet(tmp_path: Path, data: st.DataObject) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"sentence1": ["a b", "c d", "e"], "sentence2": ["a", "b c", "d"], "label": [0.0, 1.0, 0.5]}
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    path.write_bytes(damaged(path.read_bytes(), data))
    check_pairs(path)
