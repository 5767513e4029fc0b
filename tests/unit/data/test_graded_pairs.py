"""The graded pairs that come with the package: splits, grades, lengths, and that shared words do not decide."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import PACKAGED, PairSplit, load_splits
from rwkv_sweep.evaluation.word_baselines.word_overlap import word_overlap

SPLITS = ("train", "test")
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows() -> dict[str, Rows]:
    def read(split: str) -> Rows:
        with open(PACKAGED["embedded"] / f"{split}.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return {split: read(split) for split in SPLITS}


@pytest.fixture(scope="module")
def pairs() -> dict[str, PairSplit]:
    config = DatasetConfig("embedded", "assets", id="embedded", splits=list(SPLITS), word_split="punctuation")
    return dict(zip(SPLITS, load_splits(config), strict=True))


def letters(text: str) -> str:
    return "".join(re.findall(r"\w", text.lower()))


def test_no_sentence_occurs_twice_in_or_between_splits(pairs: dict[str, PairSplit]) -> None:
    assert len(pairs["train"]) >= 500 and len(pairs["test"]) >= 300
    sentences = [letters(text) for split in SPLITS for text in pairs[split].sentences]
    assert [text for text, count in Counter(sentences).items() if count > 1] == []


@pytest.mark.parametrize("split", SPLITS)
def test_every_grade_and_domain_is_there(rows: dict[str, Rows], split: str) -> None:
    grades = Counter(row["first_grade"] for row in rows[split])
    assert sorted(grades) == list("012345") and min(grades.values()) >= 60
    by_domain = Counter((row["domain"], row["first_grade"]) for row in rows[split])
    domains = {domain for domain, _ in by_domain}
    assert len(domains) >= 8 and all(by_domain[pair] for pair in itertools.product(domains, "012345"))


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_the_mean_of_both_gradings(rows: dict[str, Rows], pairs: dict[str, PairSplit], split: str) -> None:
    both = np.array([[int(row["first_grade"]), int(row["second_grade"])] for row in rows[split]])
    np.testing.assert_array_equal(pairs[split].labels, both.mean(1))
    assert not pairs[split].binary


def test_the_agreement_is_what_the_card_says(rows: dict[str, Rows]) -> None:
    first, second = (
        np.array([int(row[column]) for split in SPLITS for row in rows[split]])
        for column in ("first_grade", "second_grade")
    )
    kappa = cohen_kappa_score(first, second, weights="quadratic")
    card = " ".join((PACKAGED["embedded"].parent / "README.md").read_text(encoding="utf-8").split())
    said = re.search(r"Pearson (\S+), Spearman (\S+), quadratic-weighted kappa (\S+)\)", card)
    assert said and [float(figure) for figure in said.groups()] == pytest.approx(
        [pearsonr(first, second).statistic, spearmanr(first, second).statistic, kappa], abs=5e-4
    )
    assert f"agree exactly on {100 * (first == second).mean():.1f} %" in card
    assert np.abs(first - second).max() <= 1


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_are_of_4_to_30_words(pairs: dict[str, PairSplit], split: str) -> None:
    words = [len(text.split()) for text in pairs[split].sentences]
    assert min(words) >= 4 and max(words) <= 30 and np.quantile(words, 0.95) > 15


@pytest.mark.parametrize("split", SPLITS)
def test_word_overlap_tells_much_but_does_not_decide(pairs: dict[str, PairSplit], split: str) -> None:
    overlap = word_overlap(pairs[split].sentences1, pairs[split].sentences2, "punctuation")
    labels = pairs[split].labels
    assert 0.3 < spearmanr(overlap, labels).statistic < 0.85
    few, many = np.quantile(overlap, [0.5, 0.75])
    assert (overlap[labels >= 4.5] <= few).any(), "the same in other words"
    assert (overlap[labels <= 3] >= many).any(), "something else in the same words"


def test_a_wheel_holds_them(repo_root: Path) -> None:
    assert all(path.is_relative_to(repo_root / "rwkv_sweep") and path.exists() for path in PACKAGED.values())
