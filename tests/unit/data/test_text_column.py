"""Columns of sentences that read like lists."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from rwkv_sweep.data import text_column
from rwkv_sweep.data.text_column import Texts

SENTENCES = ["one", "", "three, 3", "vier ", "five \U0001f600", "one"]


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_column, "ROWS_AT_A_TIME", 4)


def test_reads_like_a_list() -> None:
    column = Texts.of(iter(SENTENCES))
    assert list(column) == SENTENCES and len(column) == 6
    assert [column[index] for index in (0, 5, -1, -6)] == [SENTENCES[index] for index in (0, 5, -1, -6)]
    for part in (slice(2), slice(1, 4), slice(4, 1), slice(None, None, 2), slice(3, 100), slice(-2, None)):
        assert list(column[part]) == SENTENCES[part]
    assert list(column.take([5, 0, 2])) == ["one", "one", "three, 3"]
    assert column == SENTENCES and column == Texts.of(SENTENCES) and column != SENTENCES[:-1]
    with pytest.raises(IndexError):
        column[6]
    assert list(Texts.of([])) == [] and len(Texts.joined([])) == 0


def test_columns_add_up() -> None:
    both = Texts.of(SENTENCES[:2]) + Texts.of(SENTENCES[2:])
    assert both == SENTENCES and both[3] == SENTENCES[3] and list(both[1:4]) == SENTENCES[1:4]
    assert Texts.joined([Texts.of(SENTENCES), Texts.of([]), Texts.of(["x"])]) == [*SENTENCES, "x"]


def test_sentences_found_in_another_column() -> None:
    column = Texts.of(SENTENCES[:3]) + Texts.of(SENTENCES[3:])
    assert column.is_in(Texts.of(["one", "two", "one", ""])).tolist() == [True, True, False, False, False, True]
    assert not column.is_in(Texts.of([])).any()


def test_digest_tells_lists_apart() -> None:
    def digest(sentences: list[str]) -> str:
        made = hashlib.sha256()
        Texts.of(sentences).update(made)
        return made.hexdigest()

    lists = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["c", "ab"]]
    assert len({digest(sentences) for sentences in lists}) == len(lists)
    whole = hashlib.sha256()
    (Texts.of(["ab"]) + Texts.of(["c"])).update(whole)
    assert whole.hexdigest() == digest(["ab", "c"])


def test_reading_a_long_column_holds_few_strings() -> None:
    column = Texts.of(f"sentence {number} " + "x" * 200 for number in range(20_000))
    tracemalloc.start()
    assert sum(len(sentence) for sentence in column) > 4_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
