"""Holm's procedure against a hand example and its definition; the family of a sweep."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.report.common.comparisons import Comparison, comparisons, limited
from rwkv_sweep.stats.bootstrap import least_p
from rwkv_sweep.stats.multiple_testing import holm


def test_hand_example() -> None:
    # Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04, and the last may not be less than the third.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([1.0, 0.0]) == [1, 0]
    assert holm([0.01, 0.01]) == [0.02, 0.02]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_closure_of_bonferroni(seed: int) -> None:
    """A hypothesis falls where Bonferroni rejects every intersection it is part of: Holm's by brute force."""
    p = np.random.default_rng(seed).beta(0.5, 3, size=6).round(3)
    expected = [
        max(
            min(1.0, size * min(p[list(subset)]))
            for size in range(1, 7)
            for subset in combinations(range(6), size)
            if index in subset
        )
        for index in range(6)
    ]
    assert holm(p.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_p_value(bad: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, bad])


def test_family_is_every_p_value_of_finished_runs() -> None:
    results = [
        Result(
            "layer=1",
            "model",
            FINISHED,
            {},
            {"final/delta": -0.1, "final/delta_p": 0.001, "baseline/word_overlap/delta_p": 0.02, "quality/spearman": 1},
        ),
        Result("layer=3", "model", FINISHED, {}, {"final/delta": 0.2, "final/delta_p": 0.04}),
        Result("layer=5", "model", FINISHED, {}, {"final/delta": 0.2, "final/delta_p": float("nan")}),
        Result("layer=7", "model", FAILED, {}, {"final/delta": 0.2, "final/delta_p": 0.001}),
        Result("word_overlap", "baseline", FINISHED, {}, {"quality/spearman": 0.4}),
    ]
    family = comparisons(results)
    assert [(comparison.run, comparison.against, comparison.survives) for comparison in family] == [
        ("layer=1", "final", True),
        ("layer=1", "word_overlap", True),
        ("layer=3", "final", True),
    ]
    assert [comparison.adjusted for comparison in family] == pytest.approx([0.003, 0.04, 0.04])
    assert family[0].value == -0.1 and np.isnan(family[1].value)
    assert comparisons([]) == []


def family_of(count: int, p: float, **metrics: float) -> list[Comparison]:
    values = {f"baseline/{name}/delta_p": p if name == 0 else 0.5 for name in range(count)}
    return comparisons([Result("x", "model", FINISHED, {"bootstrap": 2000}, {**values, **metrics})])


def test_the_smallest_p_value_that_does_not_survive_is_reported() -> None:
    sentence = limited(family_of(115, least_p(2000)))
    assert sentence.startswith("1 of 115 comparisons have the smallest p-value that 2000 bootstrap resamples can give")
    assert "bootstrap=4600 or more could decide them" in sentence
    assert least_p(4600) * 115 < 0.05 < least_p(4000) * 115
    assert limited(family_of(40, least_p(2000))) == "", "it survives"
    assert limited(family_of(115, 0.01)) == "", "more resamples would not change it"
    recorded = family_of(115, least_p(9200), **{"comparisons/resamples": 9200.0})
    assert recorded[0].survives and limited(recorded) == ""


def test_resamples_are_those_that_p_values_come_from() -> None:
    assert [comparison.resamples for comparison in family_of(2, 0.1)] == [2000, 2000]
    assert [comparison.resamples for comparison in family_of(1, 0.1, **{"comparisons/resamples": 9200.0})] == [9200]
    assert [
        comparison.resamples for comparison in comparisons([Result("x", "model", FINISHED, {}, {"final/delta_p": 0.1})])
    ] == [0]


@pytest.mark.parametrize("bad", [None, "many", float("inf"), float("nan"), -5])
def test_a_record_that_does_not_say_its_resamples(bad: Any) -> None:
    (one,) = comparisons([Result("x", "model", FINISHED, {"bootstrap": bad}, {"final/delta_p": 0.001})])
    assert one.resamples == 0 and not one.is_limited
