"""Scores against labels: everything fast is compared with SciPy, scikit-learn or a plain loop."""

from __future__ import annotations

import math
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from rwkv_sweep.errors import NonFiniteError
from rwkv_sweep.evaluation.metrics import best_f1_accuracy, cosine, paired_difference, paired_differences, score
from rwkv_sweep.stats import bootstrap
from rwkv_sweep.stats.bootstrap import Seed, bootstrap_spearman, least_p, resampled_counts, resamples_for, two_sided_p
from rwkv_sweep.stats.intervals import Difference, Interval, median_interval, median_ratio_interval, ratio_interval


def made_up(pairs: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = {
        "binary": random.integers(0, 2, pairs),
        "graded": random.integers(0, 6, pairs),
        "continuous": random.normal(size=pairs),
    }[kind].astype(float)
    return labels + random.normal(size=pairs).round(1), labels  # rounded: some scores tie


def drawn(pairs: int, resamples: int, seed: Seed) -> np.ndarray:
    return np.concatenate(list(resampled_counts(pairs, resamples, seed))).astype(int)


def test_cosine() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 50, 7)).astype(np.float16)
    a[3] = 0
    b[4] = a[4]
    result = cosine(a, b)
    assert result.dtype == np.float64 and result.shape == (50,)
    for index in set(range(50)) - {3}:
        x, y = a[index].astype(float), b[index].astype(float)
        assert result[index] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-12)
    assert result[3] == 0 and result[4] == 1
    assert (cosine(a[4:], a[4:]) == 1).all()
    assert cosine(-a[4:], a[4:]) == pytest.approx(-1)


def test_cosine_refuses_what_has_none() -> None:
    ones = np.ones((3, 2))
    bad = ones.copy()
    bad[1, 0] = np.inf
    with pytest.raises(NonFiniteError, match="1 of 3 pairs hold NaN or infinity, the first is pair 1"):
        cosine(ones, bad)
    with pytest.raises(NonFiniteError, match="1 of 3 pairs hold NaN or infinity, the first is pair 1"):
        cosine(bad, ones)
    with pytest.raises(ValueError, match="same shape"):
        cosine(ones, ones[:2])


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosine_does_not_know_lengths(scale: float, dtype: type) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9, 5))
    expected = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    np.testing.assert_allclose(cosine((scale * a).astype(dtype), (scale * b).astype(dtype)), expected, rtol=1e-5)


def test_cosine_of_nothing_is_nothing_whatever_memory_held_before() -> None:
    zeros = np.zeros((20, 3))
    for _ in range(50):
        del (rubbish := [np.full(20, np.nan) for _ in range(9)])[:]
        assert not rubbish and not cosine(zeros, zeros).any()


@pytest.mark.parametrize("kind", ["binary", "graded", "continuous"])
@pytest.mark.parametrize("pairs", [3, 60])
def test_bootstrap_is_scipy_on_each_resample(kind: str, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = made_up(pairs, kind, seed=pairs + 5)
    monkeypatch.setattr(bootstrap, "_CHUNK_ELEMENTS", 7 * pairs)  # several chunks, the last one short
    result = bootstrap_spearman([scores, -scores], labels, 100, seed=3)
    counts = drawn(pairs, 100, seed=3)
    assert (counts.sum(axis=1) == pairs).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [spearmanr(np.repeat(scores, row), np.repeat(labels, row)).statistic for row in counts]
    np.testing.assert_allclose(result[0], expected, atol=1e-10)
    np.testing.assert_allclose(result[1], -np.array(expected), atol=1e-10)


@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_score(kind: str) -> None:
    scores, labels = made_up(300, kind)
    quality = score(scores, labels, 500, seed=1)
    assert quality.spearman == pytest.approx(spearmanr(scores, labels).statistic, abs=1e-12)
    assert quality.pearson == pytest.approx(np.corrcoef(scores, labels)[0, 1], abs=1e-12)
    assert quality.spearman_lo < quality.spearman < quality.spearman_hi
    assert quality.pairs == 300
    assert quality == score(scores, labels, 500, seed=1)
    assert quality != score(scores, labels, 500, seed=2)
    if kind == "graded":
        assert quality.average_precision is quality.auc is quality.f1 is quality.accuracy is None
    else:
        assert quality.average_precision == average_precision_score(labels, scores)
        assert quality.auc == roc_auc_score(labels, scores)
        assert (quality.f1, quality.accuracy) == best_f1_accuracy(scores, labels)


def test_single_precision_and_whole_numbers_are_numbers_like_any_other() -> None:
    scores, labels = made_up(50, "binary")
    narrow = scores.astype(np.float32)
    wide = narrow.astype(np.float64)
    assert score(narrow, labels.astype(int), 100, seed=1) == score(wide, labels, 100, seed=1)
    other, others = narrow[::-1], wide[::-1]
    assert paired_difference(narrow, other, labels.astype(int), 100, 1) == paired_difference(
        wide, others, labels, 100, 1
    )
    times, slower = (np.abs(sample) + 1 for sample in (narrow, other))
    for interval_of in (ratio_interval, median_ratio_interval):
        expected = interval_of(times.astype(np.float64), slower.astype(np.float64), 100, seed=1)
        assert interval_of(times, slower, 100, seed=1) == expected
        assert interval_of(times.tolist(), slower.tolist(), 100, seed=1) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-160, 1e160, 1e307])
def test_pearson_of_labels_at_the_ends_of_the_number_range(scale: float) -> None:
    """Against Fractions, which neither vanish nor overflow."""
    scores, _ = made_up(40, "graded")
    labels = np.random.default_rng(1).integers(-6, 7, 40) * scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality = score(scores, labels, 50, seed=0)
    assert quality.pearson == pytest.approx(exact_pearson(scores, labels), abs=1e-12)
    assert score(labels, scores, 50, seed=0).pearson == pytest.approx(quality.pearson, abs=1e-12)


@pytest.mark.parametrize("labels", [[1e308, -1.7e308, 9e307, -1e308], [5e-324, 0, 5e-324, 0], [0, 5e-324, 1e308, 1]])
def test_pearson_of_a_few_extreme_labels(labels: list[float]) -> None:
    scores = np.array([0.9, 0.1, 0.8, 0.3])
    quality = score(scores, np.array(labels), 50, seed=0)
    assert quality.pearson == pytest.approx(exact_pearson(scores, np.array(labels)), abs=1e-12)


def exact_pearson(a: np.ndarray, b: np.ndarray) -> float:
    x, y = ([Fraction(float(value)) for value in values] for values in (a, b))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    product = sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True))
    squares = sum((p - mean_x) ** 2 for p in x) * sum((q - mean_y) ** 2 for q in y)
    ratio = product**2 / squares
    return math.sqrt(ratio) * (1 if product > 0 else -1)


@pytest.mark.parametrize("kind", ["binary", "graded", "continuous"])
def test_scaling_leaves_ordinary_figures_to_the_last_bit(kind: str) -> None:
    scores, labels = made_up(300, kind)
    assert score(scores, labels, 50, seed=0).pearson == pearsonr(scores, labels).statistic


def test_interval_covers_the_usual_width() -> None:
    """Near the normal approximation 1.96 (1 - r^2) / sqrt(P) of a rank correlation."""
    scores, labels = made_up(408, "continuous")
    quality = score(scores, labels, 2000, seed=0)
    expected = 1.96 * (1 - quality.spearman**2) / np.sqrt(408)
    assert (quality.spearman_hi - quality.spearman_lo) / 2 == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("seed", range(20))
def test_best_f1_and_accuracy_try_every_threshold(seed: int) -> None:
    scores, labels = made_up(25, "binary", seed)
    labels[:2] = 0, 1
    scores = scores if seed % 2 else -scores  # also a ranking worse than chance
    thresholds = [*np.unique(scores), np.inf]
    f1, accuracy = best_f1_accuracy(scores, labels)
    assert f1 == pytest.approx(max(f1_score(labels, scores >= t, zero_division=0) for t in thresholds), abs=1e-12)
    assert accuracy == pytest.approx(max(accuracy_score(labels, scores >= t) for t in thresholds), abs=1e-12)


def test_paired_difference() -> None:
    a, labels = made_up(200, "binary")
    b = a + np.random.default_rng(9).normal(size=200) * 0.3
    difference = paired_difference(a, b, labels, 1000, seed=4)
    counts = drawn(200, 1000, seed=4)[:50]
    first = [
        spearmanr(np.repeat(a, row), np.repeat(labels, row)).statistic
        - spearmanr(np.repeat(b, row), np.repeat(labels, row)).statistic
        for row in counts
    ]
    resampled = bootstrap_spearman([a, b], labels, 1000, seed=4)
    np.testing.assert_allclose((resampled[0] - resampled[1])[:50], first, atol=1e-10)
    assert difference.value == pytest.approx(spearmanr(a, labels).statistic - spearmanr(b, labels).statistic)
    assert (difference.lo, difference.hi) == pytest.approx(
        tuple(np.quantile(resampled[0] - resampled[1], (0.025, 0.975)))
    )
    alone = score(a, labels, 1000, seed=4)
    assert difference.hi - difference.lo < alone.spearman_hi - alone.spearman_lo
    same = paired_difference(a, a, labels, 100, seed=0)
    assert (same.value, same.lo, same.hi, same.p) == (0, 0, 0, 1)


def test_several_references_share_the_resamples() -> None:
    a, labels = made_up(120, "graded")
    others = [a + np.random.default_rng(seed).normal(size=120) for seed in (1, 2, 3)]
    together = paired_differences(a, others, labels, 500, seed=3)
    assert together == [paired_difference(a, other, labels, 500, seed=3) for other in others]


def test_more_resamples_are_the_same_each_time() -> None:
    a, labels = made_up(60, "continuous")
    again = [paired_differences(a, [-a, a[::-1]], labels, 100, seed=2, p_resamples=900) for _ in range(2)]
    assert again[0] == again[1]


def test_a_rare_p_value_comes_from_more_resamples() -> None:
    """As many as the family needs, where hardly any resample is on the other side; the interval stays as it was."""
    labels = np.random.default_rng(0).normal(size=60)
    close, far, same = labels + 0.1 * np.random.default_rng(1).normal(size=60), -labels, labels.copy()
    first = paired_differences(close, [far, same], labels, 200, seed=5)
    more = paired_differences(close, [far, same], labels, 200, seed=5, p_resamples=4000)
    assert first[0].p == least_p(200) and more[0].p == least_p(4000)
    assert [(interval.value, interval.lo, interval.hi) for interval in first] == [
        (interval.value, interval.lo, interval.hi) for interval in more
    ]
    undecided, none = made_up(60, "graded")[0], np.zeros(60)
    none[0] = 1
    by_chance = paired_differences(undecided, [none], labels, 200, seed=5)
    assert by_chance[0].p > 0.1 and paired_differences(undecided, [none], labels, 200, 5, p_resamples=4000) == by_chance


def test_a_rare_p_value_is_the_share_of_all_its_resamples() -> None:
    a, labels = made_up(80, "graded")
    b = a + np.random.default_rng(1).normal(size=80) * 0.9
    (actual,) = paired_differences(a, [b], labels, 20, seed=2, p_resamples=300)
    below = above = 0
    for row in [*drawn(80, 20, seed=2), *drawn(80, 280, seed=[2, 20])]:
        sample = np.repeat(labels, row)
        gap = spearmanr(np.repeat(a, row), sample).statistic - spearmanr(np.repeat(b, row), sample).statistic
        below += gap <= 1e-12
        above += gap >= -1e-12
    assert actual.p == pytest.approx(2 * (min(below, above) + 1) / 301, abs=1e-12)


@pytest.mark.parametrize("comparisons", [1, 25, 115, 1500])
def test_resamples_grow_with_the_family_and_are_bounded(comparisons: int) -> None:
    enough = resamples_for(comparisons, 100, least=2000, alpha=0.05)
    assert enough >= 2000 and comparisons * 2 * least_p(enough) <= 0.05
    assert enough == max(2000, 80 * comparisons)
    bounded = resamples_for(comparisons, 1_000_000, least=2000, alpha=0.05)
    assert bounded == 2000


@pytest.mark.parametrize("pairs", [1, 408, 3001])
def test_pairs_drawn_for_small_p_values_are_bounded(pairs: int) -> None:
    most = resamples_for(10**9, pairs, least=1, alpha=0.05)
    assert isinstance(most, int) and most * pairs <= bootstrap.MOST_DRAWN < (most + 1) * pairs


def test_few_resamples_are_held_at_a_time() -> None:
    assert next(resampled_counts(1 << 18, 3, seed=0)).shape == (1, 1 << 18)
    assert next(resampled_counts(1 << 10, 3000, seed=0)).shape == (64, 1 << 10)


@pytest.mark.parametrize("pairs", [1, 2, 3, 20, 21])
def test_bootstrap_median_is_numpy_on_each_resample(pairs: int) -> None:
    values = np.random.default_rng(pairs).normal(size=pairs)
    expected = [np.median(np.repeat(values, row)) for row in drawn(pairs, 100, seed=3)]
    np.testing.assert_allclose(bootstrap.bootstrap_median(values, 100, seed=3), expected, rtol=1e-12)


@pytest.mark.parametrize("noise", [0.02, 0.5, 2.0])
def test_paired_p_counts_the_resamples_on_the_other_side(noise: float) -> None:
    a, labels = made_up(80, "graded")
    b = a + np.random.default_rng(1).normal(size=80) * noise
    below = above = 0
    for row in drawn(80, 300, seed=2):
        sample = np.repeat(labels, row)
        gap = spearmanr(np.repeat(a, row), sample).statistic - spearmanr(np.repeat(b, row), sample).statistic
        below += gap <= 1e-12
        above += gap >= -1e-12
    expected = min(1.0, 2 * (min(below, above) + 1) / 301)
    assert paired_difference(a, b, labels, 300, seed=2).p == pytest.approx(expected, abs=1e-12)
    assert paired_difference(b, a, labels, 300, seed=2).p == pytest.approx(expected, abs=1e-12)


def test_two_sided_p() -> None:
    assert two_sided_p(np.array([1.0, 2, 3, 4, -1, 5, 6, 7, 8])) == 2 * 2 / 10
    assert two_sided_p(np.array([1.0, 2, 3, np.nan])) == least_p(3) == 2 / 4
    assert two_sided_p(np.array([0.0, 0, 1])) == 1 == least_p(0)
    with pytest.raises(NonFiniteError, match="none of 1 resamples"):
        two_sided_p(np.array([np.nan]))


def test_two_sided_p_is_the_level_at_which_the_interval_touches_zero() -> None:
    differences = np.random.default_rng(0).normal(1.5, size=20_000)
    p = two_sided_p(differences)
    assert np.quantile(differences, p / 2) == pytest.approx(0, abs=0.01)
    assert p == pytest.approx(2 * 0.0668, rel=0.1)  # of a normal distribution, 1.5 deviations from zero


def test_ratio_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    b = random.lognormal(1, 0.5, 50)
    a = 1.1 * b + random.normal(size=50) * 0.02
    monkeypatch.setattr(bootstrap, "_CHUNK_ELEMENTS", 7 * 50)
    ratio = ratio_interval(a, b, 400, seed=3)
    resampled = [np.repeat(a, row).mean() / np.repeat(b, row).mean() for row in drawn(50, 400, seed=3)]
    assert ratio.value == pytest.approx(a.mean() / b.mean())
    assert (ratio.lo, ratio.hi) == pytest.approx(tuple(np.quantile(resampled, (0.025, 0.975))))
    # The texts differ fivefold in time, but by the same factor in both.
    assert ratio.lo < 1.1 < ratio.hi and ratio.hi - ratio.lo < 0.01
    same = ratio_interval(b, b, 100, seed=0)
    assert (same.value, same.lo, same.hi) == (1, 1, 1)


@pytest.mark.parametrize("pairs", [1, 20, 21])
def test_median_ratio_interval(pairs: int) -> None:
    random = np.random.default_rng(0)
    b = random.lognormal(1, 0.5, pairs)
    a = 1.1 * b + random.normal(size=pairs) * 0.02
    ratio = median_ratio_interval(a, b, 200, seed=3)
    resampled = [np.median(np.repeat(a / b, row)) for row in drawn(pairs, 200, seed=3)]
    assert ratio.value == pytest.approx(np.median(a / b))
    assert (ratio.lo, ratio.hi) == pytest.approx(tuple(np.quantile(resampled, (0.025, 0.975))))


def test_median_interval() -> None:
    values = np.random.default_rng(0).lognormal(1, 0.5, 30)
    actual = median_interval(values, 200, seed=3)
    resampled = [np.median(np.repeat(values, row)) for row in drawn(30, 200, seed=3)]
    assert actual.value == np.median(values)
    assert (actual.lo, actual.hi) == pytest.approx(tuple(np.quantile(resampled, (0.025, 0.975))))


def test_metrics_of_intervals_and_differences() -> None:
    assert Interval(1.0, 0.5, 2.0).metrics("a/b") == {"a/b": 1.0, "a/b_lo": 0.5, "a/b_hi": 2.0}
    assert Difference(1.0, 0.5, 2.0, 0.3).metrics("d") == {"d": 1.0, "d_lo": 0.5, "d_hi": 2.0, "d_p": 0.3}


def test_median_ratio_is_not_moved_by_a_few_slow_turns() -> None:
    b = np.full(100, 10.0)
    a = np.where(np.arange(100) < 5, 100.0, 10.1)
    assert median_ratio_interval(a, b, 100, seed=0).value == pytest.approx(1.01)
    assert ratio_interval(a, b, 100, seed=0).value > 1.4


def test_ratio_interval_refuses_what_is_no_time() -> None:
    ones = np.ones(3)
    for bad in (np.array([1, np.nan, 1]), np.array([1.0, 0, 1]), np.array([1, np.inf, 1])):
        for pair in ((ones, bad), (bad, ones)):
            for interval_of in (ratio_interval, median_ratio_interval):
                with pytest.raises(NonFiniteError, match="1 of 3 pairs of times"):
                    interval_of(*pair, 10, seed=0)
    for a, b in ((ones, ones[:2]), (ones[:0], ones[:0]), (ones[None], ones[None])):
        with pytest.raises(ValueError, match="one shape"):
            ratio_interval(a, b, 10, seed=0)


def test_no_number_where_there_is_none() -> None:
    scores, labels = made_up(10, "binary")
    for bad, message in (
        (
            np.where(np.arange(10) == 7, np.nan, scores),
            "1 of 10 scores are NaN or infinite, the first is that of pair 7",
        ),
        (np.full(10, 0.5), "all 10 scores are 0.5: Spearman is undefined"),
    ):
        with pytest.raises(NonFiniteError, match=message):
            score(bad, labels, 10, seed=0)
        with pytest.raises(NonFiniteError, match=message):
            paired_difference(scores, bad, labels, 10, seed=0)
    with pytest.raises(NonFiniteError, match="all 10 labels are 1"):
        score(scores, np.ones(10), 10, seed=0)
    with pytest.raises(NonFiniteError, match="there are no scores"):
        score(np.empty(0), np.empty(0), 10, seed=0)
    with pytest.raises(ValueError, match="one shape"):
        score(scores, labels[:5], 10, seed=0)


def test_one_pair_has_no_correlation() -> None:
    with pytest.raises(NonFiniteError, match=r"all 1 scores are 0\.5"):
        score(np.array([0.5]), np.array([1.0]), 10, seed=0)


@pytest.mark.filterwarnings("error")
def test_resamples_without_a_correlation_are_left_out() -> None:
    quality = score(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]), 200, seed=0)
    assert np.isnan(bootstrap_spearman([np.arange(3.0)], np.array([0.0, 1.0, 1.0]), 200, seed=0)).any()
    assert np.isfinite([quality.spearman_lo, quality.spearman_hi]).all()


def test_bootstrap_has_no_loop_over_resamples() -> None:
    """A call for each is what makes SciPy in a loop twenty times as slow."""
    scores, labels = made_up(64, "binary")
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        bootstrap_spearman([scores], labels, 10_000, seed=0)
    finally:
        sys.setprofile(None)
    assert 0 < calls < 5_000
