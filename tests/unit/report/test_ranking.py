"""Which runs the pairs can tell apart, which speeds compare, and what runs and splits are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.common.labels import run_labels
from rwkv_sweep.report.common.ranking import MOST_PAIRS, shown_better, standard_errors
from rwkv_sweep.report.common.splits import run_splits, split_names
from rwkv_sweep.report.speeds.speeds import BATCHES, PAIRS, quotient, sign, speeds
from tests.made_up_sweeps import around


def made_up(pairs: int, noises: list[float]) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, pairs).astype(float)
    common = labels + random.normal(size=pairs)
    return [(labels, common + noise * random.normal(size=pairs)) for noise in noises]


def test_errors_are_those_of_pairs_drawn_anew() -> None:
    scored = made_up(150, [0.1, 0.5, 1.0])
    random = np.random.default_rng(5)
    drawn = [random.integers(0, 150, 150) for _ in range(600)]
    values = np.array([[spearmanr(s[rows], labels[rows]).statistic for rows in drawn] for labels, s in scored])
    errors_KK = standard_errors(scored)
    for i in range(3):
        for j in range(3):
            expected = np.std(values[i] - values[j], ddof=1)
            assert errors_KK[i, j] == pytest.approx(expected, rel=0.12, abs=1e-9)
    # What makes a pair hard is common to both and cancels.
    assert errors_KK[0, 1] < 0.7 * np.std(values[0], ddof=1)


def test_a_run_without_scores_or_with_other_pairs_is_not_distinguished() -> None:
    labels, scores = made_up(100, [0.1])[0]
    errors_KK = standard_errors([(labels, scores), None, (1 - labels, scores), (labels, -scores)])
    assert np.isnan(errors_KK[:, 1:3]).all() and np.isfinite(errors_KK[0, 3])
    better = shown_better(np.array([0.9, 0.1, 0.1, 0.1]), errors_KK)
    assert better[0].tolist() == [False, False, False, True]
    assert np.isnan(standard_errors([None, None])).all()
    assert np.isnan(standard_errors([(np.zeros(2), np.zeros(2))] * 2)).all()


def test_many_pairs_are_sampled_and_scaled() -> None:
    pairs = 2 * MOST_PAIRS
    whole, half = (standard_errors(made_up(count, [0.2, 0.6]))[0, 1] for count in (pairs, MOST_PAIRS))
    assert whole == pytest.approx(half / 2**0.5, rel=0.15)


def test_equals_are_never_shown_to_differ() -> None:
    labels, scores = made_up(100, [0.1])[0]
    error = standard_errors([(labels, scores)] * 3)
    assert error == pytest.approx(0, abs=1e-7)
    assert not shown_better(np.array([0.5, 0.5, 0.5]), error).any()


def test_the_best_of_many_equal_runs_is_seldom_shown_to_be_best() -> None:
    """Of runs that are alike but for noise, the truly best must be left out in 5 % of sweeps at most."""
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        values = random.normal(size=20)  # independent, standard error of a difference: the root of 2
        better = shown_better(values, np.full((20, 20), 2**0.5))
        wrong += bool(better[:, 0].any())  # run 0 is as good as any
    assert wrong <= 0.08 * 200


def run(
    name: str, tags: dict[str, str] | None = None, metrics: dict[str, float] | None = None, **params: Any
) -> Result:
    return Result(name, "model", FINISHED, {"layer": name, **params}, metrics or {}, tags or {})


def referenced(ratios: dict[str, float], **tags: str) -> list[Result]:
    common = {"speed.reference": "final, fp32", "model_fingerprint": "m", **tags}
    return [run(name, common, around("throughput/ratio", ratio, 0.001)) for name, ratio in ratios.items()]


def test_runs_beside_one_reference_compare() -> None:
    compared = speeds(referenced({"1": 2.0, "3": 2.05, "5": 1.0}), BATCHES)
    assert compared.reference == "final, fp32" and compared.fastest == ["3", "1"]
    assert compared.ratio("1", "5").value == pytest.approx(2.0) and compared.sign("5", "1") == -1


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("speed.reference", "final, int8"),
        ("model_fingerprint", "another"),
        ("device_name", "another"),
        ("data_fingerprint", "another"),
    ],
)
def test_runs_beside_different_references_do_not(tag: str, value: str) -> None:
    runs = referenced({"1": 2.0, "5": 1.0}, device_name="d", data_fingerprint="p")
    runs[1] = replace(runs[1], tags={**runs[1].tags, tag: value})
    compared = speeds(runs, BATCHES)
    assert not compared.of and compared.why_not == "they were timed one after another"


def test_a_rate_without_a_steady_state_is_not_ranked() -> None:
    runs = referenced({"1": 2.0, "3": 3.0, "5": 1.0})
    runs[1].metrics["throughput/settled"] = 0.0
    compared = speeds(runs, BATCHES)
    assert compared.fastest == ["1"] and compared.left_out == 1
    runs[0].metrics["throughput/settled"] = 0.0
    assert speeds(runs, BATCHES).why_not == "the rates reached no steady state"


def test_latency_beside_a_reference_is_a_time() -> None:
    tags = {"speed.reference": "torch.mm"}
    runs = [run(name, tags, around("latency/ratio", ratio, 0.001)) for name, ratio in (("1", 0.5), ("5", 1.0))]
    assert speeds(runs, PAIRS).fastest == ["1"]


def test_quotients_and_signs() -> None:
    from rwkv_sweep.stats.intervals import Interval

    half = quotient(Interval(1.0, 0.9, 1.1), Interval(2.0, 2.0, 2.0))
    assert (half.value, half.lo, half.hi) == pytest.approx((0.5, 0.45, 0.55))
    assert [sign(Interval(*bounds)) for bounds in ((1.1, 1.05, 1.2), (1.1, 0.9, 1.2), (0.9, 0.8, 0.95))] == [1, 0, -1]
    assert sign(Interval(1.02, 1.01, 1.03), margin=0.03) == 0 == sign(Interval(0.98, 0.97, 0.99), margin=0.03)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("[all]", ["all"]),
        ("[train[:1000],validation]", ["train[:1000]", "validation"]),
        ("[train[10%:20%], 'test']", ["train[10%:20%]", "test"]),
        ("train,test", ["train", "test"]),
        (None, []),
        ("", []),
    ],
)
def test_splits_as_they_were_asked_for(given: str | None, names: list[str]) -> None:
    assert run_splits(run("1", **{"dataset.splits": given})) == names


def test_only_scored_splits_count() -> None:
    scored = run("1", metrics={"quality/test/spearman": 0.1}, **{"dataset.splits": "[train,test]"})
    assert split_names([scored]) == ["test"]


def test_labels_say_what_sets_runs_apart() -> None:
    runs = [
        run("a", layer="5", precision="int8", aggregation="none"),
        run("b", layer="final", precision="fp16", aggregation="none"),
        run("c", layer="8+9+10+11", precision="fp16", aggregation="mean"),
        run("d", layer="all", precision="fp16", aggregation="mean", pooling="idf", **{"pooling.corpus": "train"}),
        Result("word_overlap", "baseline", FINISHED, {}),
    ]
    assert run_labels(runs, ["layer", "precision", "aggregation"]) == {
        "a": "layer 5, int8",
        "b": "final layer, fp16",
        "c": "mean of 8-11, fp16",
        "d": "mean of all, fp16",
        "word_overlap": "word overlap",
    }
    twins = [run("seed=0,layer=5", layer="5"), run("seed=1,layer=5", layer="5")]
    assert run_labels(twins, ["layer"]) == {twin.name: twin.name for twin in twins}
    assert run_labels([run("x", layer="5", batch_tokens="512")], ["layer", "batch_tokens"])["x"] == (
        "layer 5, batch tokens 512"
    )


def test_no_folder_no_scores(tmp_path: Path) -> None:
    from rwkv_sweep.report.common.ranking import recorded_scores

    assert recorded_scores(None, "all") is None and recorded_scores(tmp_path, "all") is None
    (tmp_path / "pairs.csv").write_text("split,row,label,score\nall,0,one,0.5\n")
    assert recorded_scores(tmp_path, "all") is None
