"""The next result computed while this one is used."""

from __future__ import annotations

import threading

import pytest

from rwkv_sweep.embedding.prompts import one_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_order(count: int) -> None:
    assert list(one_ahead(lambda number: number * number, range(count))) == [number**2 for number in range(count)]


def test_the_next_is_computed_while_this_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def compute(number: int) -> int:
        begun[number].set()
        return number

    for number in one_ahead(compute, range(3)):
        if number < 2:
            assert begun[number + 1].wait(20), "the next was not begun"


def test_an_error_comes_with_its_own_result() -> None:
    def compute(number: int) -> int:
        if number == 1:
            raise ValueError("the second")
        return number

    results = one_ahead(compute, range(3))
    assert next(results) == 0
    with pytest.raises(ValueError, match="the second"):
        next(results)
