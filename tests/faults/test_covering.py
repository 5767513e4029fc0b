"""The choice of combinations holds what it promises."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.covering import covering, matrix


@pytest.mark.parametrize("sizes", [(2, 3), (13, 25), (1, 4), (2, 2, 3), (3, 4, 5), (8, 17, 4, 2), (1, 1, 1)])
def test_all_values_of_two_factors_and_all_pairs_of_more(sizes: tuple[int, ...]) -> None:
    chosen = covering(sizes)
    assert len(set(chosen)) == len(chosen) and chosen == covering(sizes)
    strength = min(2, len(sizes) - 1)
    for factors in itertools.combinations(range(len(sizes)), strength):
        actual = {tuple(combination[factor] for factor in factors) for combination in chosen}
        assert actual == set(itertools.product(*(range(sizes[factor]) for factor in factors)))
    # No fewer can hold all pairs of the two largest factors; twice as many is no choice.
    fewest = sorted(sizes)[-1] * (sorted(sizes)[-2] if strength == 2 else 1)
    assert fewest <= len(chosen) <= 2 * fewest


def test_what_failed_before_always_runs() -> None:
    mark = matrix({"kind": ["a", "b", "c"], "key": [1, 2, 3]}, failed_before=[("a", None), ("c", 1)])
    names, parameters = mark.args
    assert names == ("kind", "key") and len(parameters) == 9
    by_default = {parameter.values for parameter in parameters if not parameter.marks}
    assert by_default == {("a", 1), ("a", 2), ("a", 3), ("b", 2), ("c", 3), ("c", 1)}
    assert [parameter.id for parameter in parameters][:2] == ["a-1", "a-2"]
