"""The next result computed while this one is used."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from rwkv_sweep.embedding.prompts import Tokenized, one_ahead, tokenized_parts
from rwkv_sweep.errors import NoTokensError


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


def tokens_of(sentences: Sequence[str]) -> Tokenized:
    if rows := [row for row, sentence in enumerate(sentences) if not sentence]:
        raise NoTokensError("a sentence has no tokens", rows)
    ids = [[len(sentence)] for sentence in sentences]
    return Tokenized(ids, [(0, 1)] * len(ids), 0)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_parts_are_all_sentences_in_order(ahead: bool, size: int) -> None:
    sentences = ["x" * length for length in range(1, 8)]
    parts = list(tokenized_parts(tokens_of, sentences, size, ahead))
    assert [ids for _, part in parts for ids in part.ids] == [[length] for length in range(1, 8)]
    assert [sentence for rows, _ in parts for sentence in sentences[rows]] == sentences


@pytest.mark.parametrize("ahead", [False, True])
def test_rows_of_an_error_are_those_of_all_sentences(ahead: bool) -> None:
    with pytest.raises(NoTokensError) as caught:
        list(tokenized_parts(tokens_of, ["a", "b", "c", "d", ""], 2, ahead))
    assert list(caught.value.rows) == [4]
