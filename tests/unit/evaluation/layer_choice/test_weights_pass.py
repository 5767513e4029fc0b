"""A run's learned aggregation: fitted to pairs that are not scored, recorded, and the same in run and encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rwkv_sweep.api.composing import composed
from rwkv_sweep.api.encoder import Encoder
from rwkv_sweep.config.schema import AggregationConfig, DatasetConfig
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.errors import UnsupportedError, UserError
from rwkv_sweep.evaluation.layer_choice import weights_pass
from rwkv_sweep.evaluation.layer_choice.weights_pass import equal_weights, fit_aggregation, learned_weights
from rwkv_sweep.evaluation.quality import sentence_vectors
from rwkv_sweep.sweep.preflight import check_runs
from tests.small_models import FP32, encoder_of, random_config, small_lm

WORDS = ["cat", "mat", "rain", "north", "price", "bank", "snow", "hill", "tree", "river", "stone", "cloud"]


def pair_lines(count: int, seed: int) -> str:
    """Pairs of four words; the more of them in common, the higher the label, 0 to 4."""
    random = np.random.default_rng(seed)
    lines = ["sentence1\tsentence2\tlabel"]
    for number in range(count):
        own, other = random.permutation(WORDS)[:4].tolist(), random.permutation(WORDS)[:4].tolist()
        label = number % 5
        lines.append(f"{' '.join(own)} {seed}{number}\t{' '.join(own[:label] + other[label:])} {number}\t{label}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    folder = tmp_path_factory.mktemp("pairs")
    for seed, (name, count) in enumerate({"train": 60, "test": 20}.items()):
        (folder / f"{name}.tsv").write_text(pair_lines(count, seed))
    scored = (folder / "test.tsv").read_text().splitlines()[1:4]
    (folder / "mixed.tsv").write_text((folder / "train.tsv").read_text() + "\n".join(scored) + "\n")
    return DatasetConfig("pairs", "file", str(folder), splits=["test"])


@pytest.fixture(scope="module")
def scored(data: DatasetConfig) -> list[PairSplit]:
    return load_splits(data)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "small"
    small_lm(num_blocks=3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def overrides(data: DatasetConfig, model_path: Path) -> list[str]:
    chosen = ["model=local", f"model.path={model_path}", "model.tokenizer=bytes", "device=cpu", "layer=all"]
    return [*chosen, "dataset=pairs", f"dataset.path={data.path}", "dataset.splits=[test]", "aggregation=learned"]


@pytest.fixture(scope="module")
def embedder(overrides: list[str]) -> Embedder:
    encoder = Encoder.from_config(*overrides, "aggregation.fit=train")._fitted.encoder
    return Embedder(encoder, (0, 1, 2), "mean", AggregationConfig("learned", "unit", fit="train"))


def source_of(embedder: Embedder) -> VectorSource:
    return VectorSource(embedder.encoder, FP32, [], store=None)


def test_weights_are_fitted_recorded_and_used(
    embedder: Embedder, data: DatasetConfig, scored: list[PairSplit], overrides: list[str]
) -> None:
    fitted = fit_aggregation(embedder, source_of(embedder), data, scored, seed=0)
    weights = fitted.embedder.aggregation.weights
    assert fitted.embedder.aggregation.name == "weighted" and sum(weights) == pytest.approx(1)
    assert [fitted.metrics[f"aggregation/weight/0{layer}"] for layer in range(3)] == weights
    assert fitted.params["aggregation.learned"] == "[" + ",".join(f"{weight:.6g}" for weight in weights) + "]"
    assert fitted.metrics["aggregation/fit_pairs"] == 60 and fitted.tags == {"aggregation_fit": "train"}
    assert {"aggregation/fit_score", "aggregation/regularization"} <= set(fitted.metrics)
    in_run = sentence_vectors(source_of(embedder), fitted.embedder, scored[0].sentences)
    alone = Encoder.from_config(*overrides, "aggregation.fit=train").encode(list(scored[0].sentences))
    np.testing.assert_allclose(alone, in_run, atol=1e-6)
    by_weights = Encoder.from_config(*overrides, "aggregation=weighted", f"aggregation.weights={weights}")
    np.testing.assert_allclose(by_weights.encode(list(scored[0].sentences)), in_run, atol=1e-6)


def test_pairs_with_a_scored_sentence_are_left_out(
    embedder: Embedder, data: DatasetConfig, scored: list[PairSplit]
) -> None:
    mixed = replace(embedder, aggregation=replace(embedder.aggregation, fit="mixed"))
    fitted, plain = (fit_aggregation(one, source_of(one), data, scored, seed=0) for one in (mixed, embedder))
    assert fitted.embedder.aggregation.weights == plain.embedder.aggregation.weights
    assert fitted.tags["aggregation_fit"] == "mixed without the 3 pairs with a sentence that is scored too"


def test_labels_of_the_scored_split_are_not_read(
    embedder: Embedder, data: DatasetConfig, scored: list[PairSplit]
) -> None:
    other = [replace(split, labels=split.labels[::-1].copy()) for split in scored]
    first, second = (fit_aggregation(embedder, source_of(embedder), data, splits, 0) for splits in (scored, other))
    assert first.embedder.aggregation.weights == second.embedder.aggregation.weights


def test_the_data_set_may_name_the_split(embedder: Embedder, data: DatasetConfig, scored: list[PairSplit]) -> None:
    unnamed = replace(embedder, aggregation=replace(embedder.aggregation, fit=None))
    fitted = fit_aggregation(unnamed, source_of(embedder), replace(data, fit="train"), scored, seed=0)
    assert fitted.tags == {"aggregation_fit": "train"}
    with pytest.raises(UserError, match=r"aggregation=learned aggregation\.fit=null: valid is a split of the dataset"):
        fit_aggregation(unnamed, source_of(embedder), data, scored, seed=0)


@pytest.mark.parametrize("splits", [["test"], ["train", "test"]])
def test_a_split_that_is_scored_is_refused(data: DatasetConfig, splits: list[str]) -> None:
    config = replace(data, splits=splits)
    with pytest.raises(UserError, match=rf"aggregation\.fit={splits[0]} has no pair that is not scored too"):
        fitting_pairs(config, "aggregation.fit", splits[0], load_splits(config))


def test_random_weights_of_a_model_have_nothing_to_fit() -> None:
    encoder = encoder_of(random_config(hidden_size=16, num_blocks=2, intermediate_size=32))
    plain = Embedder(encoder, (0, 1), "mean", AggregationConfig("learned", fit="train"))
    equal = equal_weights(plain)
    assert equal.embedder.aggregation.weights == [0.5, 0.5] and "note.aggregation" in equal.tags
    mean = replace(plain, aggregation=AggregationConfig("mean"))
    assert equal_weights(mean).embedder is mean and not equal_weights(mean).tags
    v_LSD = torch.randn(2, 3, 16)
    torch.testing.assert_close(equal.embedder.combine(v_LSD), mean.combine(v_LSD))


def test_many_pairs_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were no others, whichever the seed draws."""
    random = np.random.default_rng(0)
    v_LSD, labels = random.normal(size=(2, 80, 4)).astype(np.float32), random.integers(0, 3, 40).astype(float)
    monkeypatch.setattr(weights_pass, "MOST_PAIRS", 30)
    config = AggregationConfig("learned", "none", fit="train")
    drawn = learned_weights(config, v_LSD, labels, seed=4)
    kept = np.sort(np.random.default_rng(4).permutation(40)[:30])
    alone = learned_weights(config, v_LSD[:, np.concatenate([kept, kept + 40])], labels[kept], seed=4)
    assert drawn.weights_L.tolist() == alone.weights_L.tolist()


def test_data_without_a_split_to_fit_to_leave_the_other_runs_of_a_sweep(overrides: list[str]) -> None:
    """As with any run that cannot be: alone it is refused, among others it is recorded as unsupported."""
    learned, mean = (composed((*overrides[:-1], f"aggregation={name}"), {}) for name in ("learned", "mean"))
    assert check_runs([mean, learned]).same_as == [0, 1]
    with pytest.raises(UnsupportedError, match=r"aggregation=learned aggregation\.fit=null"):
        check_runs([learned])
