"""Malformed pair files by the hundred: a clear error in one line or sound pairs, never another exception."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.readers import SUFFIXES, TEXT_SUFFIXES
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.metric_names import quality_metrics
from rwkv_sweep.evaluation.word_baselines.word_overlap import word_overlap
from tests.faults.fuzzing import CELL, ODD_NUMBERS, VALUE, damaged, one_line_or, quietly

SUFFIX = st.sampled_from([*SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES)])
LINE_END = st.sampled_from(["\n", "\r\n", "\r", "\n\r"])
NUMBER = st.one_of(
    st.sampled_from(["1", "0", "-2.5", "1e3", "true", "NaN", "-Infinity", "null"]), st.sampled_from(ODD_NUMBERS)
)
DEEP = st.sampled_from(["[" * 50_000 + "]" * 50_000, '{"a":' * 50_000 + "1" + "}" * 50_000])
QUOTED = st.one_of(CELL.map(json.dumps), st.sampled_from(['"\\ud800"', '"a b"', '"c"', '"\\u4e00"']))
SHARD_NAMES = [
    *(f"train-{index:05d}-of-{count:05d}.parquet" for count in (1, 2) for index in range(count)),
    *("validation-00000-of-00001.parquet", "validation-00000-of-00001-0123456789abcdef.parquet", "train-0-of-1.tsv"),
    *("train.tsv", "train.tsv.gz", "dev.tsv", "dev-00000-of-00001.tsv.gz", "train-00000-of-00001.tsv", "notes.txt"),
]


def _no_text() -> Any:
    """A column of text whose bytes are none."""
    import pyarrow

    offsets = pyarrow.py_buffer(np.arange(4, dtype=np.int32).tobytes())
    return pyarrow.Array.from_buffers(pyarrow.string(), 3, [None, offsets, pyarrow.py_buffer(b"\xff\xfe\xfd")])


def _column(values: list[Any], kind: str | None = None) -> Callable[[], Any]:
    def make() -> Any:
        import pyarrow

        return pyarrow.array(values, getattr(pyarrow, kind)() if kind else None)

    return make


def _time() -> Any:
    import pyarrow

    return pyarrow.array([2**62, -(2**62), 0], pyarrow.timestamp("ms"))


PARQUET_COLUMNS: dict[str, Callable[[], Any]] = {
    "text": _column(["a b", "c", "d e"]),
    "blank": _column(["a", " ", "b"]),
    "missing": _column(["a", None, "b"]),
    "numbers": _column([0.0, 1.0, 0.5]),
    "whole numbers": _column([0, 1, 2**63], "uint64"),
    "no numbers": _column([float("nan"), float("inf"), 1.0]),
    "booleans": _column([True, False, True]),
    "bytes": _column([b"1", b"0", b"\xff"]),
    "lists": _column([[1], [], [2, 3]]),
    "objects": _column([{"label": 1}, {"label": 0}, None]),
    "times": _time,
    "no text": _no_text,
}


def check_pairs(path: Path, split: str = "all") -> None:
    cfg = DatasetConfig(name="pairs", source="file", path=str(path), splits=[split], word_split="punctuation")
    splits = one_line_or(lambda: load_splits(cfg))
    if splits is None:
        return
    (pairs,) = splits
    assert len(pairs.sentences1) == len(pairs.sentences2) == len(pairs.labels) >= 2
    assert np.isfinite(pairs.labels).all() and len(set(pairs.labels.tolist())) > 1
    assert all(text.strip() for text in pairs.sentences)
    # Whatever could be read can be scored, too: by figures that exist, or by none with a reason.
    overlap = word_overlap(pairs.sentences1, pairs.sentences2, cfg.word_split)
    try:
        assert np.isfinite(list(quality_metrics(splits, [overlap], 5, 0).values())).all()
    except UndefinedError:
        assert overlap.min() == overlap.max() or len(overlap) < 10


@quietly
@given(suffix=SUFFIX, content=st.binary(max_size=200))
def test_any_bytes_as_pairs(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(content)
    check_pairs(path)
    if suffix.endswith(".gz"):
        path.write_bytes(gzip.compress(content))
        check_pairs(path)


@quietly
@given(
    suffix=st.sampled_from([".tsv", ".csv"]),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=5),
    header=st.sampled_from(
        [["sentence1", "sentence2", "label"], ["sentence1", "label"], ["label", "label", "sentence1"]]
    ),
    end=LINE_END,
)
def test_any_cells_as_pairs(tmp_path: Path, suffix: str, rows: list[list[str]], header: list[str], end: str) -> None:
    path = tmp_path / f"pairs{suffix}"
    separator = "\t" if suffix == ".tsv" else ","
    lines = [separator.join(cells) for cells in [header, *rows]]
    path.write_text(end.join(lines), encoding="utf-8", newline="")
    check_pairs(path)


@quietly
@given(
    suffix=st.sampled_from([".jsonl", ".json", ".jsonl.gz"]),
    rows=st.lists(
        st.lists(
            st.tuples(st.sampled_from(["sentence1", "sentence2", "label", "x"]), st.one_of(NUMBER, DEEP, QUOTED)),
            min_size=3,
            max_size=5,
        ),
        min_size=1,
        max_size=4,
    ),
    end=LINE_END,
)
def test_objects_as_no_library_writes_them(
    tmp_path: Path, suffix: str, rows: list[list[tuple[str, str]]], end: str
) -> None:
    """Keys twice, integers of thousands of digits, nesting beyond the stack: by hand, as json.dumps makes none."""
    objects = ["{" + ", ".join(f'"{name}": {value}' for name, value in row) + "}" for row in rows]
    content = (end.join(objects) if suffix != ".json" else f"[{','.join(objects)}]").encode()
    path = tmp_path / f"pairs{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    check_pairs(path)


@quietly
@given(
    names=st.lists(st.sampled_from(["sentence1", "sentence2", "label", "extra"]), min_size=3, max_size=5),
    data=st.data(),
)
def test_columns_of_any_type_as_parquet(tmp_path: Path, names: list[str], data: st.DataObject) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = [data.draw(st.sampled_from(list(PARQUET_COLUMNS))) for _ in names]
    arrays = [PARQUET_COLUMNS[column]() for column in columns]
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), path)
    check_pairs(path)


@quietly
@given(
    names=st.lists(st.sampled_from(SHARD_NAMES), max_size=4, unique=True),
    split=st.sampled_from(["train", "validation"]),
)
def test_any_files_of_a_folder(tmp_path: Path, names: list[str], split: str) -> None:
    import tempfile

    import pyarrow
    from pyarrow import parquet

    with tempfile.TemporaryDirectory(dir=tmp_path) as made:
        folder = Path(made)
        for name in names:
            table = pyarrow.table({"sentence1": ["a b", "c"], "sentence2": ["a", "b"], "label": [0, 1]})
            if name.endswith(".parquet"):
                parquet.write_table(table, folder / name)
            else:
                text = b"sentence1\tsentence2\tlabel\na b\ta\t0\nc\tb\t1\n"
                (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        check_pairs(folder, split)


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
