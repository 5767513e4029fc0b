"""What the speed pass reads: the same tokens for every job that reads the same sentences, counted anew for others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.profiling import split_tokens
from rwkv_sweep.profiling.split_tokens import SplitTokens, TokenReader
from tests.small_models import encoder_of, random_config

pytestmark = pytest.mark.usefixtures("one_thread")


def split_of(fingerprint: str, *sentences: str) -> PairSplit:
    texts = Texts.of(sentences)
    return PairSplit("all", texts, texts, np.arange(len(sentences), dtype=float), fingerprint)


def test_tokens_are_read_once_for_jobs_that_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[SplitTokens] = []
    tokens_of = split_tokens._tokens_of

    def counted(*arguments: object) -> SplitTokens:
        read.append(tokens_of(*arguments))  # type: ignore[arg-type]
        return read[-1]

    monkeypatch.setattr(split_tokens, "_tokens_of", counted)
    encoder, reader = encoder_of(random_config()), TokenReader()
    split, other = split_of("a", "A dog!", "The cat"), split_of("b", "A dog!", "Another")
    first = reader.read(encoder, split, 0)
    assert (first.tokens, first.truncated) == (2 * (6 + 7), 0)
    assert reader.read(replace(encoder, batch_tokens=64), split, 0) is first and len(read) == 1
    assert reader.read(encoder, other, 0).tokens == 2 * (6 + 7)
    shorter = reader.read(replace(encoder, max_tokens=3), other, 0)
    assert (shorter.tokens, shorter.truncated) == (12, 4)
    assert reader.read(encoder, split, 0).sample.ids == first.sample.ids and len(read) == 4
    assert TokenReader().read(encoder, split, 0).sample.ids == first.sample.ids and len(read) == 5


def test_a_large_split_is_sampled_and_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_tokens, "SAMPLED_SENTENCES", 5)
    encoder = encoder_of(random_config())
    split = split_of("a", *(letter * length for length, letter in enumerate("abcdefg", 1)))
    read = TokenReader().read(encoder, split, 0)
    assert read.tokens == 2 * sum(range(1, 8)) and len(read.sample.ids) == 5
    lengths = [len(ids) for ids in read.full_batch(10).ids]
    assert sum(lengths) <= 10 or len(lengths) == 1
