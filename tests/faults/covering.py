"""Which combinations of a matrix run by default, and which with `make test-faults-all` alone.

A fault hangs on one value or on two that meet, hardly ever on three. So of two factors (a kind of path, a key) every
value runs with at least one value of the other, and of three or more every pair of values is in some combination;
combinations that have failed before run whatever else does. The rest carries the mark `whole`. The choice is always the
same.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

Combination = tuple[Any, ...]


def matrix(factors: Mapping[str, Sequence[Any]], failed_before: Collection[Combination] = ()) -> pytest.MarkDecorator:
    """The parametrization of a test with all combinations of these factors, by the names of its arguments.

    failed_before: combinations that always run; None in one stands for every value of that factor.
    """
    chosen = set(covering([len(values) for values in factors.values()]))
    parameters = []
    for places in itertools.product(*(range(len(values)) for values in factors.values())):
        values = tuple(choices[place] for choices, place in zip(factors.values(), places, strict=True))
        always = any(_matches(values, pattern) for pattern in failed_before)
        marks = [] if always or places in chosen else [pytest.mark.whole]
        parameters.append(pytest.param(*values, marks=marks, id="-".join(map(_name, values))))
    return pytest.mark.parametrize(tuple(factors), parameters)


def covering(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Combinations of factors with so many values each, in which all values of two factors, or all pairs of values of
    more, are found. Few, but not the fewest: always the combination with the most that is not found yet."""
    if len(sizes) == 2:
        return [(number % sizes[0], number % sizes[1]) for number in range(max(sizes))]
    every = list(itertools.product(*map(range, sizes)))
    missing = {pair for combination in every for pair in _pairs(combination)}
    chosen = []
    while missing:
        best = max(every, key=lambda combination: len(missing.intersection(_pairs(combination))))
        missing.difference_update(_pairs(best))
        chosen.append(best)
    return chosen


def _pairs(combination: Sequence[int]) -> list[tuple[tuple[int, int], ...]]:
    return list(itertools.combinations(enumerate(combination), 2))


def _matches(values: Combination, pattern: Combination) -> bool:
    return all(wanted is None or value == wanted for value, wanted in zip(values, pattern, strict=True))


def _name(value: Any) -> str:
    return str(getattr(value, "id", None) or getattr(value, "__name__", None) or value)
