"""Pair files at the edges of their formats: read as every other program reads them, or refused with the place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.readers import split_suffix
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.errors import UserError

ROWS = [("a cat", "the cat", 1), ("rain fell", "a dog", 0), ("snow \u2028 fell", "it snowed", 1)]
COLUMNS = ("sentence1", "sentence2", "label")
TEXT = {
    ".tsv": "\n".join("\t".join(map(str, row)) for row in (COLUMNS, *ROWS)) + "\n",
    ".csv": "\n".join(",".join(map(str, row)) for row in (COLUMNS, *ROWS)) + "\n",
    ".jsonl": "\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in ROWS) + "\n",
    ".json": json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in ROWS], ensure_ascii=False, indent=1) + "\n",
}


ROW = '{{"sentence1": "a", "sentence2": "b", "label": {}}}'


def load(path: Path, split: str = "all") -> PairSplit:
    (split_pairs,) = load_splits(DatasetConfig(name="pairs", source="file", path=str(path), splits=[split]))
    return split_pairs


def message(path: Path, split: str = "all") -> str:
    with pytest.raises(UserError) as caught:
        load(path, split)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value).replace(f"{path.parent}/", "").replace(str(path.parent), "FOLDER")


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(path: Path, **columns: object) -> Path:
    arrays = {name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in columns.items()}
    parquet.write_table(pa.table(arrays), path)
    return path


def rows_of(split: PairSplit) -> list[tuple[str, str, float]]:
    return list(zip(split.sentences1, split.sentences2, split.labels.tolist(), strict=True))


# --- compression and line ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", TEXT)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "mark"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_line_end_mark_and_compression(tmp_path: Path, suffix: str, ends: str, start: str, packed: bool) -> None:
    content = (start + TEXT[suffix].replace("\n", ends)).encode()
    name = f"pairs{suffix}" + (".gz" if packed else "")
    assert rows_of(load(written(tmp_path / name, gzip.compress(content) if packed else content))) == ROWS


def test_a_quoted_field_may_hold_any_line_end(tmp_path: Path) -> None:
    rows = 'sentence1,sentence2,label\r"one\rtwo",b,1\rc,"three\r\rfour",0\r'
    assert rows_of(load(written(tmp_path / "a.csv", rows)))[1] == ("c", "three\r\rfour", 0)
    wording = message(written(tmp_path / "b.csv", "sentence1,sentence2,label\na,b\rc,1\n"))
    assert wording == (
        "b.csv, line 2: not valid CSV: a carriage return within a field; lines must end in LF or CR LF, or all of "
        "them in CR"
    )


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".json"])
def test_damaged_gzip_names_the_file(tmp_path: Path, suffix: str) -> None:
    packed = gzip.compress(TEXT[suffix].encode() * 200, mtime=0)
    for number, content in enumerate((packed[: len(packed) // 2], packed[:-6] + b"x" * 6, b"plain text", b"")):
        path = written(tmp_path / f"{number}{suffix}.gz", content)
        assert message(path).startswith(f"{number}{suffix}.gz")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tsv", ("a", ".tsv")),
        ("test.jsonl.gz", ("test", ".jsonl")),
        ("A.CSV.GZ", ("A", ".csv")),
        ("v1.0.json", ("v1.0", ".json")),
        ("a.parquet", ("a", ".parquet")),
        ("a.parquet.gz", ("a.parquet", "")),
        ("a.gz", ("a", "")),
        ("tsv", ("tsv", "")),
    ],
)
def test_names_and_kinds(name: str, expected: tuple[str, str]) -> None:
    assert split_suffix(Path("folder.csv") / name) == expected


# --- names used twice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twice", ["sentence1", "label", "note"])
@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".json", ".parquet"])
def test_a_column_named_twice_is_refused(tmp_path: Path, suffix: str, twice: str) -> None:
    path = tmp_path / f"a{suffix}"
    names = [*COLUMNS, "note", twice]
    rows = [("a", "b", 1, "x", "c"), ("d", "e", 0, "y", "f")]
    if suffix == ".parquet":
        arrays = [pa.array([str(row[column]) for row in rows]) for column in range(5)]
        parquet.write_table(pa.Table.from_arrays(arrays, names=names), path)
    elif suffix.startswith(".json"):
        objects = [
            "{"
            + ",".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in zip(names, row, strict=True))
            + "}"
            for row in rows
        ]
        written(path, "\n".join(objects) if suffix == ".jsonl" else f"[{','.join(objects)}]")
    else:
        separator = "\t" if suffix == ".tsv" else ","
        written(path, "\n".join(separator.join(map(str, row)) for row in (names, *rows)))
    wording = message(path)
    assert wording.startswith(f"a{suffix}") and twice in wording and "more than" in wording


def test_a_key_twice_within_another_value_is_no_column(tmp_path: Path) -> None:
    inner = '{"sentence1": "a", "sentence2": "b", "label": %d, "meta": {"k": 1, "k": 2}}\n'
    assert load(written(tmp_path / "a.jsonl", inner % 1 + inner % 0)).labels.tolist() == [1, 0]


# --- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "value"),
    [("1", 1), (" 1 ", 1), ("+.5", 0.5), ("1.", 1), ("-2.5e-3", -0.0025), ("1E2", 100), ("007", 7), ("5e-324", 5e-324)],
)
def test_numbers_in_text(tmp_path: Path, label: str, value: float) -> None:
    path = written(tmp_path / "a.tsv", f"sentence1\tsentence2\tlabel\na\tb\t{label}\nc\td\t3\n")
    assert load(path).labels.tolist() == [value, 3]


@pytest.mark.parametrize(
    "label",
    ["1_0", "0x1", "1,5", "１", "٣", "\u00a01", "1 0", "1e", "e5", ".", "+", "--1", "1e999", "9" * 5000, "inf", "True"],  # noqa: RUF001
)
@pytest.mark.parametrize("suffix", [".tsv", ".jsonl"])
def test_what_is_no_number_is_refused_with_its_line(tmp_path: Path, label: str, suffix: str) -> None:
    if suffix == ".tsv":
        path = written(tmp_path / "a.tsv", f"sentence1\tsentence2\tlabel\na\tb\t1\nc\td\t{label}\n")
        line = 3
    else:
        row = '{"sentence1": "a", "sentence2": "b", "label": %s}\n'
        path = written(tmp_path / "a.jsonl", row % 1 + row % json.dumps(label))
        line = 2
    wording = message(path)
    assert wording.startswith(f"a{suffix}, line {line}: label is ") and wording.endswith(", valid is a finite number")


@pytest.mark.parametrize("digits", [309, 400, 4299, 4301, 5000, 100_000])
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_integers_beyond_a_float(tmp_path: Path, digits: int, suffix: str) -> None:
    rows = [ROW.format(label) for label in ("1", "9" * digits)]
    path = written(tmp_path / f"a{suffix}", "\n".join(rows) if suffix == ".jsonl" else f"[{','.join(rows)}]")
    wording = message(path)
    assert wording.startswith(f"a{suffix}, {'line' if suffix == '.jsonl' else 'item'} 2: label is ")
    assert wording.endswith("valid is a finite number")


@pytest.mark.parametrize("digits", [400, 5000])
def test_integers_beyond_a_float_in_columns_that_nobody_asked_for(tmp_path: Path, digits: int) -> None:
    rows = [ROW.format(f'{label}, "id": {"9" * digits}') for label in (1, 0)]
    assert load(written(tmp_path / "a.jsonl", "\n".join(rows))).labels.tolist() == [1, 0]


def test_other_types_of_labels(tmp_path: Path) -> None:
    from decimal import Decimal

    good = [pa.array([True, False]), pa.array([Decimal("1.5"), Decimal("0.5")]), pa.array([1, 0], pa.uint8())]
    good += [pa.array(["1", "0"]).dictionary_encode(), pa.array([1, 0], pa.float32())]
    for number, labels in enumerate(good):
        path = table(tmp_path / f"{number}.parquet", sentence1=["a", "b"], sentence2=["c", "d"], label=labels)
        assert load(path).labels.tolist() == [float(value) for value in labels.to_pylist()]
    bad = [pa.array([b"1", b"0"]), pa.array([0, 1], pa.timestamp("s")), pa.array([[1], [0]]), pa.array([None, 1])]
    for number, labels in enumerate(bad):
        path = table(tmp_path / f"bad{number}.parquet", sentence1=["a", "b"], sentence2=["c", "d"], label=labels)
        assert message(path).startswith(f"bad{number}.parquet, row 1: label is ")


# --- depth, length, bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_beyond_the_stack(tmp_path: Path, suffix: str, opening: str) -> None:
    depth, closing = 100_000, "]" if opening == "[" else "}"
    row = '{"sentence1": "a", "sentence2": "b", "label": 1, "x": %s}'
    rows = [row % 0, row % (opening * depth + "1" + closing * depth)]
    path = written(tmp_path / f"a{suffix}", "\n".join(rows) if suffix == ".jsonl" else f"[{','.join(rows)}]")
    place = "line" if suffix == ".jsonl" else "item"
    assert message(path) == f"a{suffix}, {place} 2: nested too deeply to be read"


@pytest.mark.parametrize("suffix", TEXT)
@pytest.mark.parametrize("length", [131_072, 131_073, 1_000_000])
def test_fields_of_any_length(tmp_path: Path, suffix: str, length: int) -> None:
    path = written(tmp_path / f"a{suffix}", TEXT[suffix].replace("it snowed", "x" * length))
    assert [len(text) for text in load(path).sentences2] == [7, 5, length]


@pytest.mark.parametrize(
    ("content", "wording"),
    [
        ("[1, 2", "item 1: 1 is not an object with named fields"),
        ('[{"sentence1": "a", "sentence2": "b", "label": 1}', "item 1: not valid JSON: a comma or ] must follow it"),
        ('[{"sentence1": "a", "sentence2": "b", "label": 1},]', "item 2: not valid JSON: Expecting value"),
        ('[{"sentence1": "a", "sentence2": "b", "label": 1}] []', "there is more after the list of 1 items"),
        ("[", "item 1: not valid JSON: Expecting value"),
        ("[]", "has no rows"),
        (" \n[ ] ", "has no rows"),
    ],
)
def test_broken_lists(tmp_path: Path, content: str, wording: str) -> None:
    assert wording in message(written(tmp_path / "a.json", content))


def test_a_list_is_read_as_the_json_library_reads_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", "\ufeff \r\n" + TEXT[".json"].replace(",\n", "\t,\r\n\n") + "\n \t")
    objects = json.loads(TEXT[".json"])
    assert rows_of(load(path)) == [tuple(item[column] for column in COLUMNS) for item in objects]


@pytest.mark.parametrize("start", [0, 5000])
def test_bytes_that_are_no_text_name_their_row(tmp_path: Path, start: int) -> None:
    good = pa.array(["a"] * (start + 1) + ["b", "c"])
    offsets = pa.py_buffer(np.arange(start + 4, dtype=np.int32).tobytes())
    raw = pa.py_buffer(b"a" * (start + 1) + b"\xffz")
    bad = pa.Array.from_buffers(pa.string(), start + 3, [None, offsets, raw])
    path = table(tmp_path / "a.parquet", sentence1=good, sentence2=bad, label=[1, 0] * (start // 2) + [1, 0, 1])
    wording = message(path)
    assert wording.startswith(f"a.parquet, row {start + 2}: sentence2 cannot be read: UnicodeDecodeError")


BEYOND = pa.array([2**62, 1, 2], pa.timestamp("ms"))
NO_TEXT = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.arange(4, dtype=np.int32).tobytes()), pa.py_buffer(b"\xff\xfe\xfd")]
)


@pytest.mark.parametrize("extra", [BEYOND, NO_TEXT], ids=["time", "text"])
def test_columns_that_nobody_asked_for_are_not_read(tmp_path: Path, extra: pa.Array) -> None:
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(COLUMNS)}
    assert rows_of(load(table(tmp_path / "a.parquet", extra=extra, **columns))) == ROWS
    columns["label"] = extra
    wording = message(table(tmp_path / "b.parquet", **columns))
    assert wording.startswith("b.parquet, row 1: label ")


def test_damage_in_a_column_that_nobody_asked_for_harms_nothing(tmp_path: Path) -> None:
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(COLUMNS)}
    path = table(tmp_path / "a.parquet", **columns, image=[b"x" * 500, b"y" * 500, b"z" * 500])
    chunk = parquet.read_metadata(path).row_group(0).column(3)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    with pytest.raises((OSError, pa.ArrowException)):
        parquet.read_table(path)
    assert rows_of(load(path)) == ROWS


def test_parquet_says_which_columns_there_are(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", sentence1=["a"], text=["b"], label=[1])
    assert (
        message(path) == "dataset.sentence2=sentence2: a.parquet has no such column, there are sentence1, text, label"
    )
    assert message(table(tmp_path / "b.parquet", label=pa.array([], pa.int64()))).startswith("dataset.sentence1=")


def test_utf16_is_named(tmp_path: Path) -> None:
    assert "UTF-8, which the file must be in (it looks like UTF-16)" in message(
        written(tmp_path / "a.tsv", TEXT[".tsv"].encode("utf-16"))
    )


# --- data as the hub ships it -------------------------------------------------------------------------------------


def shard(folder: Path, name: str, *labels: int) -> Path:
    texts = [f"text {label} of {name}" for label in labels]
    return table(folder / name, sentence1=texts, sentence2=texts, label=list(labels))


def test_shards_are_joined_in_order(tmp_path: Path) -> None:
    for index, labels in ((2, (5,)), (0, (1, 2)), (1, (3, 4))):
        shard(tmp_path, f"train-{index:05d}-of-00003.parquet", *labels)
    shard(tmp_path, "validation-00000-of-00001-0123456789abcdef.parquet", 8, 9)
    assert load(tmp_path, "train").labels.tolist() == [1, 2, 3, 4, 5]
    assert load(tmp_path, "train[1:4]").labels.tolist() == [2, 3, 4]
    assert load(tmp_path, "validation").labels.tolist() == [8, 9]
    assert message(tmp_path, "test").endswith("does not have: there is train, validation")
    alone = tmp_path / "validation-00000-of-00001-0123456789abcdef.parquet"
    assert load(alone, "validation").labels.tolist() == load(alone).labels.tolist() == [8, 9]


@pytest.mark.parametrize(
    ("names", "wording"),
    [
        (["train-00000-of-00002.parquet"], "split train is incomplete: FOLDER lacks train-00001-of-00002"),
        (
            ["train-00002-of-00009.parquet"],
            "split train is incomplete: FOLDER lacks train-00000-of-00009, train-00001-of-00009, train-00003-of-00009 ",
        ),
        (
            ["train-00000-of-00001.parquet", "train.parquet"],
            "split train is ambiguous: FOLDER holds train-00000-of-00001",
        ),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "split train is ambiguous: FOLDER holds "),
        (
            ["train-00000-of-00001.parquet", "train-00000-of-00001-0123456789abcdef.parquet"],
            "split train is ambiguous: FOLDER holds train-00000-of-00001-0123456789abcdef.parquet and train-0",
        ),
        (
            ["train-0-of-1.parquet"],
            "dataset.splits names train, which the folder FOLDER does not have: there is train-0-of-1",
        ),
    ],
)
def test_shards_that_do_not_fit(tmp_path: Path, names: list[str], wording: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in names:
        shard(folder, name, 1, 2)
    with pytest.raises(UserError) as caught:
        load(folder, "train")
    assert str(caught.value).replace(str(folder), "FOLDER").startswith(wording)


def test_a_bad_row_names_its_shard(tmp_path: Path) -> None:
    shard(tmp_path, "train-00000-of-00002.parquet", 1, 2)
    table(tmp_path / "train-00001-of-00002.parquet", sentence1=["a", " "], sentence2=["b", "c"], label=[1, 2])
    assert "train-00001-of-00002.parquet, row 2: sentence1 is ' '" in message(tmp_path, "train")


def test_a_folder_within_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shard(tmp_path / "data", "train-00000-of-00001.parquet", 1, 2)
    with pytest.raises(UserError, match=rf"there is no file of .*; dataset.path={tmp_path}/data has it"):
        load(tmp_path, "train")


@pytest.mark.parametrize(
    "pack", [lambda text: text.encode(), lambda text: gzip.compress(text.encode())], ids=["plain", "gz"]
)
@pytest.mark.parametrize("suffix", TEXT)
def test_compressed_files_of_a_folder(tmp_path: Path, suffix: str, pack: Callable[[str], bytes]) -> None:
    name = f"dev{suffix}" + (".gz" if pack("") else "")
    written(tmp_path / name, pack(TEXT[suffix]))
    assert rows_of(load(tmp_path, "validation")) == rows_of(load(tmp_path / name, "dev")) == ROWS
