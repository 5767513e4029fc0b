"""What the speed pass reads: the same tokens for every job that reads the same sentences, counted anew for others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rwkv_sweep.config.schema import AggregationConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.profiling import speed
from tests.small_models import encoder_of, random_config

pytestmark = pytest.mark.usefixtures("one_thread")


def split_of(fingerprint: str, *sentences: str) -> PairSplit:
    texts = Texts.of(sentences)
    return PairSplit("all", texts, texts, np.arange(len(sentences), dtype=float), fingerprint)


def test_tokens_are_read_once_for_jobs_that_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Tokenized] = []
    encoder = encoder_of(random_config())
    monkeypatch.setattr(speed, "_last_read", None)
    tokens_of = speed._tokens_of

    def counted(*arguments: object) -> tuple[Tokenized, int, int]:
        found = tokens_of(*arguments)  # type: ignore[arg-type]
        read.append(found[0])
        return found

    monkeypatch.setattr(speed, "_tokens_of", counted)
    embedder = Embedder(encoder, [1], "mean", AggregationConfig(name="none"))
    split, other = split_of("a", "A dog!", "The cat"), split_of("b", "A dog!", "Another")
    first = speed._read(embedder, split, 0)
    assert first[1:] == (2 * (6 + 7), 0)
    assert speed._read(replace(embedder, layers=[0]), split, 0) is first and len(read) == 1
    assert speed._read(embedder, other, 0)[1] == 2 * (6 + 7)
    shorter = replace(embedder, encoder=replace(encoder, max_tokens=3))
    assert speed._read(shorter, other, 0)[1:] == (12, 4)
    assert speed._read(embedder, split, 0)[0].ids == first[0].ids and len(read) == 4
