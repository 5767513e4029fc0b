"""The texts in which `pooling=idf` counts tokens: where they come from, what is recorded of them, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rwkv_sweep.api.composing import composed
from rwkv_sweep.config.path_values import shown_path
from rwkv_sweep.config.schema import DatasetConfig, PoolingConfig, RunConfig
from rwkv_sweep.data.corpus import TRANSDUCTIVE, Corpus, load_corpus, scored_corpus
from rwkv_sweep.data.splits import load_fit_split, load_splits
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.errors import UserError
from rwkv_sweep.sweep.preflight import check_runs
from rwkv_sweep.sweep.runs.run_key import baseline_key, run_key

ROWS = ["a b\tc d\t1", "e f\tg h\t0", "i j\tk l\t1", "a b\tm n\t0"]
IDF = PoolingConfig("idf")
SMALL = ("model=random", "model.tokenizer=bytes", "model.hidden_size=16", "model.num_blocks=1", "model.head_size=8")


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetConfig:
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\n" + "\n".join(ROWS) + "\n")
    return DatasetConfig("pairs", "file", str(path), splits=["all[:2]"])


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """A random model of one block, and three pairs."""
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\n" + "\n".join(ROWS[:3]) + "\n")
    return composed(
        (*SMALL, "model.vocab_size=256", "device=cpu", "dataset=pairs", f"dataset.path={path}", "layer=0"), {}
    )


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_a_split(dataset: DatasetConfig) -> None:
    corpus = load_corpus(replace(IDF, fit="all[2:]"), dataset)
    assert corpus is not None and corpus.name == "all[2:]"
    assert list(corpus.texts) == ["i j", "a b", "k l", "m n"]
    # Labels that are all the same forbid scoring, and no more.
    with pytest.raises(UserError, match="all 1 labels are 1"):
        load_splits(replace(dataset, splits=["all[:1]"]))
    assert list(load_fit_split(dataset, "all[:1]").sentences) == ["a b", "c d"]


@pytest.mark.parametrize(
    "content",
    ["one\ntwo words\n\n  \nthree", "one\r\ntwo words\r\n\r\nthree\r\n", b"\xef\xbb\xbfone\ntwo words\nthree\n"],
    ids=["line feeds, blank lines", "carriage returns", "byte order mark"],
)
def test_a_file(dataset: DatasetConfig, content: str | bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.txt", content)
    corpus = load_corpus(replace(IDF, corpus=path), dataset)
    assert corpus is not None and corpus.name == path and list(corpus.texts) == ["one", "two words", "three"]


def test_neither_is_the_scored_sentences(dataset: DatasetConfig) -> None:
    assert load_corpus(IDF, dataset) is None
    splits = load_splits(replace(dataset, splits=["all[:2]", "all[2:]"]))
    corpus = scored_corpus(splits)
    assert list(corpus.texts) == ["a b", "e f", "c d", "g h", "i j", "a b", "k l", "m n"]
    assert corpus.record(splits)[0] == {"pooling.fit": TRANSDUCTIVE}


@pytest.mark.parametrize(
    ("fit", "params", "shared"),
    [("all[2:]", {}, 1), ("all[1:]", {}, 3), ("all[:1]", {"pooling.fit": TRANSDUCTIVE}, 2)],
)
def test_what_is_recorded(dataset: DatasetConfig, fit: str, params: dict[str, str], shared: int) -> None:
    corpus = load_corpus(replace(IDF, fit=fit), dataset)
    assert corpus is not None
    recorded, tags = corpus.record(load_splits(dataset))
    assert recorded == params
    assert tags["idf_corpus"] == f"{fit}: {len(corpus.texts)} texts, {shared} of them scored too"
    assert tags["idf_fingerprint"] == corpus.fingerprint


def test_the_fingerprint_is_of_the_texts() -> None:
    assert Corpus("x", Texts.of(["a", "b"])).fingerprint == Corpus("y", Texts.of(["a", "b"])).fingerprint
    assert Corpus("x", Texts.of(["a", "b"])).fingerprint != Corpus("x", Texts.of(["ab"])).fingerprint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "holds no text"),
        ("blank.txt", "\n  \n\t\n", "holds no text"),
        ("latin.txt", b"fine\ncaf\xe9\n", "line 2, is not UTF-8"),
        ("pairs.csv", "a,b\n", "is a file of records"),
        ("missing.txt", None, "does not exist"),
        ("n" * 300, None, "has a name of 300 bytes, more than 255"),
        ("nul\0.txt", None, "holds a NUL"),
        (".", None, "is a folder"),
    ],
)
def test_files_that_are_refused(
    dataset: DatasetConfig, name: str, content: str | bytes | None, message: str, tmp_path: Path
) -> None:
    path = str(tmp_path / name) if content is None else write(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        load_corpus(replace(IDF, corpus=path), dataset)
    assert str(caught.value).startswith(f"pooling.corpus={shown_path(path)}") and message in str(caught.value)
    assert "valid is a" in str(caught.value)


def with_idf(run: RunConfig, **keys: str) -> RunConfig:
    return replace(run, pooling=replace(IDF, **keys))


def test_all_of_it_is_refused_before_the_first_run(run: RunConfig, tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus.txt", "one\n")
    late = write(tmp_path / "late.txt", b"one\n" * 100_000 + b"\xff\n")
    for keys, message in (
        ({"fit": "all", "corpus": corpus}, "valid is one of the two"),
        ({"fit": "train"}, r"dataset\.splits names train"),
        ({"corpus": late}, "line 100001, is not UTF-8"),
    ):
        with pytest.raises(UserError, match=message):
            check_runs([with_idf(run, **keys)])
        # A pooling that counts no tokens leaves them alone, so that `pooling=mean,idf pooling.fit=...` can be swept.
        check_runs([replace(run, pooling=PoolingConfig("mean", **keys))])
    with pytest.raises(UserError, match=r"dataset\.splits names train"):
        check_runs([replace(run, postprocess=replace(run.postprocess, name="center", fit="train"))])


def test_the_run_key_goes_by_what_is_counted(run: RunConfig, tmp_path: Path) -> None:
    one, copy = (write(tmp_path / name, "one\ntwo\n") for name in ("one.txt", "copy.txt"))
    other = write(tmp_path / "other.txt", "one\nthree\n")
    keys = {
        name: run_key(with_idf(run, **given))
        for name, given in {
            "scored": {},
            "split": {"fit": "all[:1]+all[2:]"},
            "another split": {"fit": "all[1:]"},
            "file": {"corpus": one},
            "another file": {"corpus": other},
        }.items()
    }
    assert len(set(keys.values())) == len(keys)
    assert run_key(with_idf(run, corpus=copy)) == keys["file"], "known by content, not by path"
    write(tmp_path / "copy.txt", "one\ntwo\nthree\n")
    assert run_key(with_idf(run, corpus=copy)) != keys["file"]
    with pytest.raises(UserError, match=r"pooling.corpus=.*gone.txt does not exist"):
        run_key(with_idf(run, corpus=str(tmp_path / "gone.txt")))
    assert baseline_key("word_overlap", with_idf(run, corpus=one)) == baseline_key("word_overlap", run)
