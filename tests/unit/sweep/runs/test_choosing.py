"""A search's rows against single encoders of the same configurations; leakage; what is refused."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from rwkv_sweep.api.encoder import Encoder
from rwkv_sweep.config.schema import AggregationConfig, DatasetConfig, PostprocessConfig, SearchConfig, SelectConfig
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.layer_choice.grid import configurations
from rwkv_sweep.evaluation.layer_choice.search import Search, SearchRow, spearman_rows
from rwkv_sweep.evaluation.metrics import cosine, score
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.sweep.runs.choosing import check_search, check_weights, run_search
from tests.small_models import FP32, small_lm

WORDS = ("cat", "mat", "rain", "north", "price", "bank", "snow", "hill", "tree", "river", "stone", "cloud")
SEARCH = SearchConfig(True, ["mean", "idf"], ["all", "last2"])


def pair_lines(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        own, other = random.permutation(WORDS)[:4].tolist(), random.permutation(WORDS)[:4].tolist()
        label = number % 5
        lines.append(f"{' '.join(own)} {seed}{number}\t{' '.join(own[:label] + other[label:])} {number}\t{label}")
    return lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    """Two pairs of `test` are in `train` too, where they are left out."""
    folder = tmp_path_factory.mktemp("pairs")
    train, test = pair_lines(60, 0), pair_lines(20, 1)
    for name, lines in {"train": [*train, *test[:2]], "test": test}.items():
        (folder / f"{name}.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *lines]) + "\n")
    return DatasetConfig("pairs", "file", str(folder), splits=["test"])


@pytest.fixture(scope="module")
def shared(data: DatasetConfig, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of the search's run and of every single one."""
    folder = tmp_path_factory.mktemp("model") / "small"
    small_lm(num_blocks=3).save_pretrained(folder)
    chosen = ["model=local", f"model.path={folder}", "model.tokenizer=bytes", "device=cpu", "pooling.fit=train"]
    chosen += ["dataset=pairs", f"dataset.path={data.path}", "dataset.splits=[test]", "dataset.fit=train"]
    return [*chosen, "postprocess.fit=train", "postprocess.components=1"]


@pytest.fixture(scope="module")
def search(shared: list[str], data: DatasetConfig) -> Search:
    encoder = Encoder.from_config(*shared, "pooling=idf", "layer=0")._fitted.encoder
    embedder = Embedder(encoder, (0,), "mean", AggregationConfig("none", "unit"))
    return Search(embedder, VectorSource(encoder, FP32, SEARCH.poolings, store=None), data, "train")


@pytest.fixture(scope="module")
def rows(search: Search, data: DatasetConfig) -> list[SearchRow]:
    return list(search.rows(SEARCH, PostprocessConfig("none", 1), load_splits(data), seed=0))


def test_all_combinations_have_a_row(rows: list[SearchRow]) -> None:
    assert len(rows) == len({row.overrides for row in rows}) == 2 * (5 + 2 * 6) * 4
    assert {row.depth for row in rows if row.overrides.startswith("layer=1 ")} == {2}


@pytest.mark.parametrize(
    "overrides",
    [
        "layer=1 pooling=mean aggregation=none postprocess=none",
        "layer=embedding pooling=idf aggregation=none postprocess=center",
        "layer=final pooling=mean aggregation=none postprocess=whiten",
        "layer=all pooling=mean aggregation=learned postprocess=none",
        "layer=last2 pooling=idf aggregation=learned postprocess=abtt",
        "layer=all pooling=mean aggregation=weighted aggregation.weights=geometric postprocess=abtt",
        "layer=last2 pooling=mean aggregation=concat postprocess=whiten",
        "layer=all pooling=idf aggregation=max postprocess=none",
    ],
)
def test_a_row_is_the_run_of_its_keys(
    rows: list[SearchRow], shared: list[str], data: DatasetConfig, overrides: str
) -> None:
    (row,) = [one for one in rows if one.overrides == overrides]
    encoder = Encoder.from_config(*shared, *overrides.split())
    (scored,) = load_splits(data)
    cosines = cosine(*np.split(encoder.encode(list(scored.sentences)), 2))
    np.testing.assert_allclose(row.scores_P, cosines, atol=1e-6)
    expected = spearmanr(cosines, scored.labels).statistic
    assert spearmanr(row.scores_P, scored.labels).statistic == pytest.approx(expected, abs=1e-6)
    if "learned" not in overrides:  # whose figure is less what cross-validation takes off
        train = load_splits(replace(data, splits=["train[:60]"]))[0]
        there = cosine(*np.split(encoder.encode(list(train.sentences)), 2))
        assert row.chosen_on == pytest.approx(spearmanr(there, train.labels).statistic, abs=1e-6)


def test_labels_of_the_scored_split_choose_nothing(search: Search, rows: list[SearchRow], data: DatasetConfig) -> None:
    few = replace(SEARCH, poolings=["mean"], layers=["last2"])
    turned = [replace(split, labels=split.labels[::-1].copy()) for split in load_splits(data)]
    other = list(search.rows(few, PostprocessConfig("none", 1), turned, seed=0))
    chosen_on = {row.overrides: row.chosen_on for row in rows}
    assert [row.chosen_on for row in other] == [chosen_on[row.overrides] for row in other]


def written(search: Search, data: DatasetConfig, folder: Path) -> tuple[dict[str, float], list[dict[str, str]]]:
    few = replace(SEARCH, poolings=["mean"], layers=["last2"])
    splits: Sequence[PairSplit] = load_splits(data)
    metrics, tags = run_search(search, few, PostprocessConfig("none", 1), splits, Resampling(100, 3), folder)
    with (folder / "search.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tags["search.chosen"] == table[0]["overrides"]
    return metrics, table


def test_the_table_and_its_figures(search: Search, rows: list[SearchRow], data: DatasetConfig, tmp_path: Path) -> None:
    metrics, table = written(search, data, tmp_path)
    assert metrics["search/configurations"] == len(table) == (5 + 6) * 4
    order = [float(row["chosen_on"]) for row in table]
    assert order == sorted(order, reverse=True) and metrics["search/chosen_on"] == order[0]
    labels = load_splits(data)[0].labels
    scores = {row.overrides: row.scores_P for row in rows}
    for row in table[::7]:
        quality = score(scores[row["overrides"]], labels, 100, 3)  # as a run of it would record
        figures = (quality.spearman, quality.spearman_lo, quality.spearman_hi)
        assert [float(row[f"spearman{end}"]) for end in ("", "_lo", "_hi")] == pytest.approx(figures, abs=1e-9)
    assert metrics["search/highest"] == max(float(row["spearman"]) for row in table)
    assert metrics["search/loss"] == pytest.approx(metrics["search/highest"] - metrics["search/spearman"])


@pytest.mark.parametrize(
    ("split", "pooling_fit", "poolings", "message"),
    [
        (None, "train", ["mean"], r"search\.enabled=true select\.split=None: valid is a split of the dataset"),
        ("train", None, ["mean", "idf"], r"search\.poolings with idf and pooling\.fit=null"),
        ("train", None, ["mean"], None),
        ("train", "train", ["idf"], None),
    ],
)
def test_what_is_refused(split: str | None, pooling_fit: str | None, poolings: list[str], message: str | None) -> None:
    config = SearchConfig(True, poolings)
    if message is None:
        check_search(config, SelectConfig(split), split, pooling_fit)
    else:
        with pytest.raises(UserError, match=message):
            check_search(config, SelectConfig(split), split, pooling_fit)
    check_search(replace(config, enabled=False), SelectConfig(split), split, pooling_fit)


def test_a_limit_of_latency_is_refused_and_one_of_weights_kept() -> None:
    config = SearchConfig(True, ["mean"])
    with pytest.raises(
        UserError, match=r"^select\.max_latency_ms=2\.5 with search\.enabled=true, which times no config"
    ):
        check_search(config, SelectConfig("train", max_latency_ms=2.5), "train", None)
    check_search(replace(config, enabled=False), SelectConfig("train", max_latency_ms=2.5), "train", None)
    for limit in (None, 12.5, 13.0):
        check_weights(limit, 12.5)
    with pytest.raises(
        UserError, match=r"^select\.max_weights_mib=5 with search\.enabled=true: .* 12\.5 MiB of weights"
    ):
        check_weights(5.0, 12.5)


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_of_rows_is_that_of_scipy(ties: bool) -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(4, 30)), random.integers(0, 3, 30)
    scores = np.round(scores) if ties else scores
    expected = [spearmanr(row, labels).statistic for row in scores]
    np.testing.assert_allclose(spearman_rows(scores, labels), expected, atol=1e-12)
    assert np.isnan(spearman_rows(np.ones((1, 30)), labels)).all()


@pytest.mark.parametrize("layers", ["first9", "3", "everything"])
def test_layers_that_are_no_set_are_refused(layers: str) -> None:
    with pytest.raises(UserError, match=rf"search\.layers={layers}"):
        configurations(SearchConfig(True, ["mean"], [layers]), AggregationConfig("none"), "train", 4)


def test_the_preset_searches_a_thousand_of_twelve_blocks() -> None:
    assert 4 * len(configurations(SearchConfig(True), AggregationConfig("none"), "train", 12)) >= 1000
