"""`dataset=mteb dataset.task=...`: which dataset of the hub a task is, its files in a folder, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rwkv_sweep.api.composing import composed
from rwkv_sweep.config.groups import STS_TASKS
from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.errors import UserError

ROWS = [
    {"split": "test", "genre": "news", "sentence1": f"One {index}.", "sentence2": f"Two {index}.", "score": index / 4}
    for index in range(8)
]


def dataset(*overrides: str) -> DatasetConfig:
    return composed(("dataset=mteb", *overrides), {}).dataset


@pytest.mark.parametrize("task", STS_TASKS)
def test_a_task_names_a_dataset_of_the_hub(task: str) -> None:
    config = dataset(f"dataset.task={task}")
    assert (config.id, config.revision, config.subset) == STS_TASKS[task]
    assert config.splits == ["test"] and len(config.revision or "") == 40


def test_what_is_set_wins() -> None:
    config = dataset("dataset.task=STS17", "dataset.subset=es-es", "dataset.revision=abc")
    assert (config.id, config.subset, config.revision) == ("mteb/sts17-crosslingual-sts", "es-es", "abc")


@pytest.mark.parametrize("task", STS_TASKS)
def test_tables_are_those_of_mteb(task: str) -> None:
    mteb = pytest.importorskip("mteb", reason="mteb is not installed")
    metadata = mteb.get_task({"STS-B": "STSBenchmark"}.get(task, task)).metadata
    name, revision, subset = STS_TASKS[task]
    assert (metadata.dataset["path"], metadata.dataset["revision"]) == (name, revision)
    assert list(metadata.eval_splits) == ["test"] and metadata.type == "STS"
    assert subset is None or subset in metadata.hf_subsets


@pytest.mark.parametrize("kind", ["test.jsonl.gz", "test-00000-of-00001.parquet", "test.jsonl"])
def test_files_as_the_hub_ships_them(tmp_path: Path, kind: str) -> None:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    if kind.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / kind)
    else:
        data = text.encode()
        (tmp_path / kind).write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    (split,) = load_splits(dataset("dataset.task=STS12", f"dataset.path={tmp_path}"))
    assert split.labels.tolist() == [row["score"] for row in ROWS] and not split.binary
    assert split.sentences1[3] == "One 3." and split.sentences2[3] == "Two 3."


@pytest.mark.parametrize("task", ["STS12", "STS17", "BIOSSES"])
def test_offline_one_line_says_which_files(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    name, _, subset = STS_TASKS[task]
    with pytest.raises(UserError) as caught:
        load_splits(dataset(f"dataset.task={task}"))
    assert str(caught.value) == (
        f"dataset.task={task} dataset.id={name} dataset.subset={subset} dataset.splits=test cannot be had from the hub "
        "(Couldn't reach the hub): offline, set dataset.path to a folder with one file per split, such as test.tsv "
        "with the columns sentence1, sentence2 and score, or the hub's own test.jsonl.gz or "
        f"test-00000-of-00001.parquet of datasets/{name}, or take dataset=embedded"
    )


def test_no_task_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^dataset\.id is not set: .* dataset\.task=STS12 STS13 .* BIOSSES$"):
        load_splits(dataset())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset=mteb", "dataset.task=STS99"), f"dataset.task=STS99 is not known: valid are {', '.join(STS_TASKS)}"),
        (
            ("dataset=mrpc", "dataset.task=STS12"),
            "dataset.task=STS12 with dataset=mrpc, which has pairs of its own: valid is dataset=mteb "
            "dataset.task=STS12",
        ),
        (
            ("dataset.task=BIOSSES",),
            "dataset.task=BIOSSES with dataset=embedded, which has pairs of its own: valid is dataset=mteb "
            "dataset.task=BIOSSES",
        ),
    ],
)
def test_another_task_or_dataset_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        composed(overrides, {})
    assert str(caught.value) == message
