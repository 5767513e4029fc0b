"""Reading sentence pairs: formats, splits, slices, and what is said of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import ReadInstruction

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data import splits as splits_module
from rwkv_sweep.data.splits import PairSplit, check_dataset, load_splits
from rwkv_sweep.errors import UserError

MRPC = Path(__file__).parents[4] / "shared" / "data" / "mrpc"
ROWS = [(index % 2, f'first "{index}', f"second, {index}") for index in range(20)]


def config(path: Path | None, *splits: str, source: str = "file", **more: str) -> DatasetConfig:
    shown = None if path is None else str(path)
    return DatasetConfig(name="test", source=source, path=shown, splits=list(splits), **more)


def tsv(path: Path, rows: list[tuple[object, ...]] = ROWS, header: str = "label\tsentence1\tsentence2") -> Path:
    lines = [header, *("\t".join(str(field) for field in row) for row in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def load(path: Path | None, *splits: str, **more: str) -> list[PairSplit]:
    return load_splits(config(path, *splits, **more))


def message(path: Path | None, *splits: str, **more: str) -> str:
    with pytest.raises(UserError) as caught:
        load(path, *splits, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tsv_keeps_bare_quotes_and_order(tmp_path: Path) -> None:
    (split,) = load(tsv(tmp_path / "pairs.tsv"), "all")
    assert split.sentences1 == [row[1] for row in ROWS]
    assert split.sentences2 == [row[2] for row in ROWS]
    assert split.labels.dtype == np.float64
    assert split.labels.tolist() == [row[0] for row in ROWS]
    assert split.binary and len(split) == 20 and split.sentences[20] == "second, 0"


def test_every_format_gives_the_same_pairs(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    tsv(tmp_path / "tabs.tsv")
    frame = pandas.DataFrame(ROWS, columns=["label", "sentence1", "sentence2"])
    frame.to_csv(tmp_path / "commas.csv", index=False)
    frame.to_json(tmp_path / "lines.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "objects.json", orient="records", lines=True)
    frame.to_json(tmp_path / "array.json", orient="records")
    frame.to_parquet(tmp_path / "columns.parquet")
    splits = load(tmp_path, "tabs", "commas", "lines", "objects", "array", "columns")
    assert len({split.fingerprint for split in splits}) == 1
    assert splits[0].fingerprint != load(tmp_path / "tabs.tsv", "all[1:]")[0].fingerprint


def test_text_is_never_guessed_to_be_something_else(tmp_path: Path) -> None:
    rows = [(0, "NA", "null"), (1, "1.50", "nan"), (2.5, "\u2028 line \x85 separators", "ünïcode")]
    for path in (tsv(tmp_path / "a.tsv", rows), tmp_path / "a.csv"):
        if path.suffix == ".csv":
            path.write_text(
                "\ufefflabel,sentence1,sentence2\r\n" + "".join("{},{},{}\r\n".format(*row) for row in rows)
            )
        (split,) = load(path, "all")
        assert list(zip(split.labels.tolist(), split.sentences1, split.sentences2, strict=True)) == rows
        assert not split.binary


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        ("train[:6]", range(6)),
        ("train[-4:]", range(16, 20)),
        ("train[10%:20%]", range(2, 4)),
        ("train[15:1000]", range(15, 20)),
        ("train[:2]+train[6:8]", [0, 1, 6, 7]),
    ],
)
def test_slices_are_those_of_datasets(tmp_path: Path, spec: str, rows: list[int]) -> None:
    tsv(tmp_path / "train.tsv")
    (split,) = load(tmp_path, spec)
    assert split.name == spec
    assert split.sentences1 == [ROWS[row][1] for row in rows]


@pytest.mark.parametrize(
    "spec", ["train", "a[3:]", "a[:3]", "train[2:5]", "a[5:3]", "a[:]", "train[:0]", "a[2:99]+train"]
)
def test_counted_rows_are_those_of_datasets(spec: str) -> None:
    """Where rows are counted, `datasets` is not asked, which takes a second to import."""
    rows_of = {"train": 10, "a": 4}
    parts = splits_module._counted_parts(spec)
    expected = ReadInstruction.from_spec(spec).to_absolute(rows_of)
    assert parts is not None
    assert [(name, *rows.indices(rows_of[name])[:2]) for name, rows in parts] == [
        (part.splitname, *slice(part.from_, part.to).indices(rows_of[part.splitname])[:2]) for part in expected
    ]


@pytest.mark.parametrize("spec", ["train[-3:]", "train[1_0:]", "train[:10%]", "train[:3](closest)", "", "train[ :3]"])
def test_what_does_not_merely_count_rows_is_left_to_datasets(spec: str) -> None:
    assert splits_module._counted_parts(spec) is None


def test_splits_of_a_folder(tmp_path: Path) -> None:
    tsv(tmp_path / "dev.tsv")
    tsv(tmp_path / "train.tsv", ROWS[:4])
    splits = load(tmp_path, "validation", "train", "dev[:2]", "train+validation")
    assert [len(split) for split in splits] == [20, 4, 2, 24]
    tsv(tmp_path / "validation.tsv", ROWS[:6])
    assert len(load(tmp_path, "validation")[0]) == 6
    tsv(tmp_path / "train.csv")
    assert message(tmp_path, "train") == f"split train is ambiguous: {tmp_path} holds train.csv and train.tsv"
    assert "names test, which the folder" in message(tmp_path, "test")
    assert message(tmp_path, "test").endswith("there is dev, train, validation")


def test_splits_of_one_file(tmp_path: Path) -> None:
    path = tsv(tmp_path / "mine.tsv")
    assert [len(split) for split in load(path, "all", "mine[:4]")] == [20, 4]
    assert message(path, "train[:4]") == (
        f"dataset.splits names train, but the one file {path} is the split all (or mine)"
    )


@pytest.mark.parametrize("spec", ["train[", "train[:x]", "train[1:2:3]", "", "train[:200%]"])
def test_bad_slice(tmp_path: Path, spec: str) -> None:
    tsv(tmp_path / "train.tsv")
    assert message(tmp_path, spec).startswith(f"dataset.splits={spec} is not a split")


def test_bad_choice_of_splits(tmp_path: Path) -> None:
    tsv(tmp_path / "train.tsv")
    assert message(tmp_path, "train[50:]") == "dataset.splits=train[50:] has no rows"
    assert message(tmp_path, "train", "train") == "dataset.splits names train more than once"
    several = ("train[:2]", "train", "train[:2]", "train")
    assert message(tmp_path, *several) == "dataset.splits names train[:2] more than once"
    assert "cannot be cut" in message(tmp_path, "train[:50%](pct1_dropremainder)")
    assert message(tmp_path, "train[:1]").startswith("dataset.splits=train[:1]: all 1 labels are 0")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"label\tsentence1\tsentence2\n1\ta\tb\n0\tonly one\n", "line 3: 2 fields, but the header has 3: '0'..."),
        (b"label\tsentence1\tsentence2\n1\ta\tb\n0\ta\tb\tc\n", "line 3: 4 fields, but the header has 3: '0'..."),
        (b"label\tsentence1\tsentence2\n1\ta\t \n", "line 2: sentence2 is ' ', valid is text that is not blank"),
        (b"label\tsentence1\tsentence2\nyes\ta\tb\n", "line 2: label is 'yes', valid is a finite number"),
        (b"label\tsentence1\tsentence2\n1\ta\tb\nNaN\ta\tb\n", "line 3: label is 'NaN', valid is a finite number"),
        (b"label\tsentence1\tsentence2\n-inf\ta\tb\n", "line 2: label is '-inf', valid is a finite number"),
        (b"label\tsentence1\tsentence2\n1\ta\tb\n0\t\xff\xfe\tb\n", "line 3: b'\\xff\\xfe\\tb' is not UTF-8"),
        (b"label\ttext\tsentence2\n1\ta\tb\n", "has no such column, there are label, text, sentence2"),
        (b"label\tlabel\tsentence2\n1\ta\tb\n", "the header names the column label more than once"),
        (b"label\tsentence1\tsentence2\n", "has no rows"),
        (b"", "has no rows"),
    ],
)
def test_bad_tsv_names_file_line_and_value(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(content)
    assert expected in message(path, "all") and str(path) in message(path, "all")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", 'label,sentence1,sentence2\n1,"a,b\n', "line 2: not valid CSV"),
        ("a.jsonl", '{"label": 1, "sentence1": "a", "sentence2": null}', "line 1: sentence2 is None"),
        ("a.jsonl", '{"label": 1}\n{"label', "there are label"),
        ("a.jsonl", '\n{"label', "line 2: not valid JSON"),
        ("a.jsonl", "[1]", "line 1: [1] is not an object"),
        ("a.json", "[3]", "item 1: 3 is not an object"),
        ("a.json", '[{"label": null, "sentence1": "a", "sentence2": "b"}]', "item 1: label is None"),
        ("a.parquet", "no parquet", "is not a readable Parquet file"),
        ("a.txt", "", "is of an unknown kind: valid are .tsv, .csv, .jsonl, .json, .parquet"),
    ],
)
def test_bad_files_of_other_formats(tmp_path: Path, name: str, content: str, expected: str) -> None:
    (tmp_path / name).write_text(content)
    assert expected in message(tmp_path / name, "all")


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist" in message(tmp_path / "nowhere", "all")
    assert message(None, "all").startswith("dataset.path is not set")
    assert message(None, "all", source="hub").startswith("dataset.id is not set")
    monkeypatch.setitem(splits_module.PACKAGED, "embedded_hard", tmp_path / "pairs.tsv")
    assert "are missing" in message(None, "all", source="assets", id="embedded_hard")
    tsv(tmp_path / "pairs.tsv")
    assert len(load(None, "all", source="assets", id="embedded_hard")[0]) == 20
    valid = "is not known: valid are embedded, embedded_hard"
    assert message(None, "all", source="assets") == f"dataset.id=None {valid}"
    assert message(None, "all", source="assets", id="mrpc") == f"dataset.id=mrpc {valid}"
    assert message(tmp_path, "pairs", source="assets") == (
        f"dataset.path={tmp_path} is not read with dataset=test, whose pairs come with the package: valid is "
        f"dataset=pairs dataset.path={tmp_path}"
    )
    assert len(load(tmp_path, "pairs", source="hub", id="some/where")[0]) == 20  # a path wins


def test_unreachable_hub_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    text = message(None, "validation", source="hub", id="nyu-mll/glue", subset="mrpc")
    assert text.startswith("dataset.id=nyu-mll/glue dataset.subset=mrpc dataset.splits=validation cannot be had")
    assert "set dataset.path to a folder" in text


def test_hub_rows_are_read_like_local_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = {"label": [0, 1], "sentence1": ["a", "b"], "sentence2": ["c", "d"], "idx": [0, 1]}
    asked = []

    def give(*args: object, **kwargs: object) -> datasets.Dataset:
        asked.append((args, kwargs))
        return datasets.Dataset.from_dict(rows)

    monkeypatch.setattr("datasets.load_dataset", give)
    (split,) = load(None, "train[:2]", source="hub", id="some/where", revision="abc")
    assert split.sentences1 == ["a", "b"] and split.labels.tolist() == [0, 1]
    assert asked == [(("some/where", None), {"revision": "abc", "split": "train[:2]"})]


def test_check_reads_no_further_than_the_first_row(tmp_path: Path) -> None:
    path = tsv(tmp_path / "a.tsv", [*ROWS, ("bad",)])
    check_dataset(config(path, "all"))
    assert "line 22" in message(path, "all")
    with pytest.raises(UserError, match=r"dataset\.label=score"):
        check_dataset(config(path, "all", label="score"))


def test_own_column_names(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"q1": "a", "q2": "b", "same": same}) + "\n" for same in (True, False)))
    (split,) = load(path, "all", sentence1="q1", sentence2="q2", label="same")
    assert split.labels.tolist() == [1, 0]


@pytest.mark.skipif(not MRPC.is_dir(), reason=f"MRPC is not at {MRPC}")
def test_mrpc_rows_are_those_of_glue() -> None:
    splits = load(MRPC, "validation", "train", "test", "train[:1000]")
    assert [len(split) for split in splits] == [408, 3668, 1725, 1000]
    assert [int(split.labels.sum()) for split in splits[:3]] == [279, 2474, 1147]
    assert splits[3].sentences2 == splits[1].sentences2[:1000]
