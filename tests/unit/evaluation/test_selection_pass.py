"""Figures on the split to choose on: of pairs that are not scored, and of the run's own vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from rwkv_sweep.config.fitting_splits import selection_split
from rwkv_sweep.config.groups import SelectConfig
from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.metrics import cosine
from rwkv_sweep.evaluation.selection_pass import measure_selection


def vectors(sentences: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), text.count("a") + 1, ord(text[0]) % 7] for text in sentences], float)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    folder: Path = tmp_path_factory.mktemp("pairs")
    rows = [f"{'ab' * (n % 5 + 1)} {n}\t{'ca' * (n % 3 + 1)} {n * n}\t{n % 4}" for n in range(24)]
    for name, part in {
        "train": rows[:16],
        "test": rows[14:],
        "binary": [f"x {n}\ty {n}\t{n % 2}" for n in range(9)],
    }.items():
        (folder / f"{name}.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *part]) + "\n")
    return DatasetConfig("pairs", "file", str(folder), splits=["test"])


def test_figures_are_of_pairs_that_are_not_scored(data: DatasetConfig) -> None:
    metrics, tags = measure_selection(vectors, data, "train", load_splits(data), 100, 0, {})
    (train,) = load_splits(replace(data, splits=["train[:14]"]))
    scores = cosine(*np.split(vectors(list(train.sentences)), 2))
    assert metrics["select/pairs"] == 14
    assert metrics["select/spearman"] == pytest.approx(spearmanr(scores, train.labels).statistic)
    assert metrics["select/pearson"] == pytest.approx(pearsonr(scores, train.labels).statistic)
    assert metrics["select/spearman_lo"] < metrics["select/spearman"] < metrics["select/spearman_hi"]
    assert tags["select_split"] == "train without the 2 pairs with a sentence that is scored too"


def test_weights_fitted_to_the_split_count_as_cross_validated(data: DatasetConfig) -> None:
    learned = {"aggregation/fit_score": 0.25}
    metrics, tags = measure_selection(vectors, data, "train", load_splits(data), 100, 0, learned)
    assert metrics == {"select/spearman": 0.25, "select/pairs": 14.0} and "cross-validated" in tags["note.select"]


def test_equal_cosines_are_noted(data: DatasetConfig) -> None:
    metrics, tags = measure_selection(
        lambda texts: np.ones((len(texts), 2)), data, "train", load_splits(data), 10, 0, {}
    )
    assert metrics == {} and tags["note.select"].startswith("undefined: all 14 scores are 1")


def test_the_scored_split_is_refused(data: DatasetConfig) -> None:
    with pytest.raises(UserError, match=r"select\.split=test has no pair that is not scored too, by dataset\.splits="):
        measure_selection(vectors, data, "test", load_splits(data), 10, 0, {})


@pytest.mark.parametrize(
    ("named", "of_data", "splits", "split"),
    [
        (None, None, ["test"], None),
        (None, "train", ["test"], "train"),
        ("train[:5]", "train", ["test"], "train[:5]"),
        ("none", "train", ["test"], None),
        (None, "train", ["train"], None),
        (None, "train", ["test", "train[:10]"], None),
        (None, "train[:10]", ["test+train[10:]"], None),
        ("train", None, ["train"], "train"),  # refused where it is read, as somebody asked for it
    ],
)
def test_which_split_is_chosen_on(named: str | None, of_data: str | None, splits: list[str], split: str | None) -> None:
    data = DatasetConfig("pairs", "file", "x", splits=splits, fit=of_data)
    assert selection_split(SelectConfig(named), data) == split
