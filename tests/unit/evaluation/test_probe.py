"""The probe against scikit-learn used plainly, and what is refused of the split that it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap, pearsonr, spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rwkv_sweep.api.composing import composed
from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.errors import UndefinedError, UserError
from rwkv_sweep.evaluation import probe as probes
from rwkv_sweep.evaluation.probe import classified, classify, pair_features, regress, regressed
from rwkv_sweep.evaluation.probe_pass import measure_probe
from rwkv_sweep.sweep.preflight import check_runs


def made_up(pairs: int, features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of different scales, one of them constant, and a value that depends on some."""
    random = np.random.default_rng(seed)
    made_PF = random.normal(size=(pairs, features)) * np.geomspace(0.01, 100, features)
    made_PF[:, 1] = 4.0
    value_P = made_PF[:, 0] * 100 + made_PF[:, -1] / 100 + 0.7 * random.normal(size=pairs)
    return made_PF, value_P


def test_features_of_a_pair() -> None:
    vectors_SD = np.array([[1.0, -2.0], [3.0, 4.0], [0.5, 1.0], [-1.0, 4.0]])
    assert pair_features(vectors_SD).tolist() == [[0.5, 3.0, 0.5, -2.0], [4.0, 0.0, -3.0, 16.0]]


@pytest.mark.parametrize("features", [8, 150])
def test_classifier_is_a_pipeline_of_scikit_learn(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are more features than pairs, which are then turned into fewer."""
    monkeypatch.setattr(probes, "INVERSE_STRENGTHS", (0.001, 0.01, 0.1))
    (train, value_N), (scored, _) = made_up(90, features), made_up(40, features, seed=1)
    labels_N = (value_N > 0).astype(float)
    probe = classify(train, labels_N, scored, seed=5)
    scaled = StandardScaler().fit(train)
    folds = StratifiedKFold(10, shuffle=True, random_state=5)
    accuracy = {
        C: cross_val_score(
            LogisticRegression(C=C, max_iter=5000), scaled.transform(train), labels_N, cv=folds, scoring="accuracy"
        ).mean()
        for C in (0.001, 0.01, 0.1)
    }
    assert probe.cross_validated == pytest.approx(max(accuracy.values()))
    assert probe.strength == max(accuracy, key=accuracy.__getitem__)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=probe.strength, max_iter=5000)).fit(train, labels_N)
    assert probe.predictions.tolist() == plain.predict(scored).tolist() and 0 < probe.predictions.mean() < 1


def test_a_rare_class_has_as_many_folds_as_pairs() -> None:
    train, value_N = made_up(40, 4)
    labels_N = (value_N >= np.sort(value_N)[-3]).astype(float)
    assert 0 < classify(train, labels_N, train, seed=0).cross_validated <= 1


@pytest.mark.parametrize("features", [8, 150])
def test_regression_is_ridge_with_the_error_of_leaving_one_out(features: int) -> None:
    (train, value_N), (scored, _) = made_up(60, features), made_up(30, features, seed=1)
    probe = regress(train, value_N, scored)
    scaled = StandardScaler().fit(train)
    rows_NF = scaled.transform(train)
    errors = {}
    for alpha in probes.STRENGTHS:
        left_out = []
        for row in range(60):
            others = np.arange(60) != row
            model = Ridge(alpha=alpha).fit(rows_NF[others], value_N[others])
            left_out.append(model.predict(rows_NF[row : row + 1])[0] - value_N[row])
        errors[alpha] = np.mean(np.square(left_out))
    assert probe.strength == min(errors, key=errors.__getitem__)
    assert probe.cross_validated == pytest.approx(1 - min(errors.values()) / value_N.var(), rel=1e-6)
    expected = Ridge(alpha=probe.strength).fit(rows_NF, value_N).predict(scaled.transform(scored))
    np.testing.assert_allclose(probe.predictions, expected, rtol=1e-6, atol=1e-8)


def test_intervals_of_a_classifier() -> None:
    random = np.random.default_rng(0)
    labels_P = (random.random(200) > 0.3).astype(float)
    said_P = np.where(random.random(200) > 0.2, labels_P, 1 - labels_P)
    intervals = classified(said_P, labels_P, 4000, 0)
    for name, metric in (("accuracy", accuracy_score), ("f1", f1_score)):
        expected = bootstrap(
            (labels_P, said_P), metric, paired=True, vectorized=False, method="percentile", n_resamples=2000, rng=1
        ).confidence_interval
        assert intervals[name].value == pytest.approx(metric(labels_P, said_P))
        assert (intervals[name].lo, intervals[name].hi) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_f1_without_any_label_1_is_0() -> None:
    assert classified(np.zeros(4), np.array([0.0, 0, 0, 1]), 100, 0)["f1"].value == 0


def test_intervals_of_a_regression() -> None:
    random = np.random.default_rng(0)
    labels_P = random.integers(0, 6, 200).astype(float)
    said_P = labels_P + random.normal(size=200) * 2
    intervals = regressed(said_P, labels_P, 4000, 0)
    for name, metric in (("pearson", pearsonr), ("spearman", spearmanr)):
        expected = bootstrap(
            (said_P, labels_P),
            lambda x, y, metric=metric: metric(x, y).statistic,
            paired=True,
            vectorized=False,
            method="percentile",
            n_resamples=2000,
            rng=1,
        ).confidence_interval
        assert intervals[name].value == pytest.approx(metric(said_P, labels_P).statistic)
        assert (intervals[name].lo, intervals[name].hi) == pytest.approx((expected.low, expected.high), abs=0.02)
    with pytest.raises(UndefinedError, match="the same value"):
        regressed(np.ones(5), labels_P[:5], 10, 0)


# The split that it is trained on.

ROWS = {
    "validation": [("a b", "a c", 1), ("d e", "f g", 0), ("h", "h i", 1), ("j", "k", 0)],
    "train": [("l m", "l n", 1), ("o p", "q r", 0), ("s", "s t", 1), ("u", "v", 0), ("a b", "w", 0), ("x", "k", 1)],
    "graded": [("l m", "l n", 4.5), ("o p", "q r", 1), ("s", "s t", 3), ("u", "v", 0)],
    "one": [("l m", "l n", 1), ("o p", "q r", 1)],
    "rare": [("l m", "l n", 1), ("o p", "q r", 0), ("s", "t", 0)],
    "copy": [("a b", "a c", 1), ("k", "j", 0)],
}


@pytest.fixture
def data(tmp_path: Path) -> DatasetConfig:
    for name, rows in ROWS.items():
        lines = ["sentence1\tsentence2\tlabel", *("\t".join(map(str, row)) for row in rows)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return DatasetConfig("pairs", "file", str(tmp_path), splits=["validation"])


@pytest.fixture
def scored(data: DatasetConfig) -> PairSplit:
    return load_splits(data)[0]


def test_pairs_with_a_scored_sentence_are_left_out(data: DatasetConfig, scored: PairSplit) -> None:
    pairs = fitting_pairs(data, "measure.probe_fit", "train", [scored])
    assert list(pairs.sentences) == ["l m", "o p", "s", "u", "l n", "q r", "s t", "v"]
    assert pairs.labels.tolist() == [1, 0, 1, 0] and pairs.binary
    assert pairs.name == "train without the 2 pairs with a sentence that is scored too"
    assert not fitting_pairs(data, "measure.probe_fit", "graded", [scored]).binary


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("validation", r"measure\.probe_fit=validation has no pair .*dataset\.splits=\[validation\]: valid is a split"),
        ("copy", r"measure\.probe_fit=copy has no pair that is not scored too"),
        ("validation[:3]", r"measure\.probe_fit=validation\[:3\] has no pair"),
        ("one", r"measure\.probe_fit=one leaves 2 pairs .* valid is a split with two pairs or more of each label"),
        ("rare", r"measure\.probe_fit=rare leaves 3 pairs"),
        ("nowhere", "nowhere"),
    ],
)
def test_a_split_that_cannot_train_is_refused(data: DatasetConfig, scored: PairSplit, spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fitting_pairs(data, "measure.probe_fit", spec, [scored])


@pytest.mark.parametrize(("spec", "names"), [("train", {"accuracy", "f1"}), ("graded", {"pearson", "spearman"})])
def test_metrics(data: DatasetConfig, scored: PairSplit, spec: str, names: set[str]) -> None:
    def vectors(sentences: object) -> np.ndarray:
        return np.array([[len(text), text.count(" ") + 1, ord(text[0]) % 7] for text in sentences], float)  # type: ignore[attr-defined]

    metrics, tags = measure_probe(vectors, data, spec, scored, 200, 0)
    assert set(metrics) == {
        *(f"probe/{name}{end}" for name in names for end in ("", "_lo", "_hi")),
        *("probe/fit_pairs", "probe/fit_score", "probe/regularization"),
    }
    assert metrics["probe/fit_pairs"] == 4 and tags["probe_fit"].startswith(spec)


def test_the_split_is_checked_before_the_first_run(data: DatasetConfig) -> None:
    overrides = ["dataset=pairs", f"dataset.path={data.path}", "dataset.splits=[validation]", "measure.probe=true"]
    with pytest.raises(UserError, match=r"measure\.probe=true measure\.probe_fit=null: valid is a split"):
        composed(overrides, {})
    with pytest.raises(UserError, match=r"measure\.probe_fit=validation has no pair"):
        check_runs([composed([*overrides, "measure.probe_fit=validation"], {})])
    with pytest.raises(UserError, match=r"measure\.probe_fit=one leaves 2 pairs"):
        check_runs([composed([*overrides, "measure.probe_fit=one"], {})])
    check_runs([composed([*overrides, "measure.probe_fit=train"], {})])
    check_runs([composed([*overrides[:-1], "measure.probe_fit=validation"], {})])  # names one and does not use it
