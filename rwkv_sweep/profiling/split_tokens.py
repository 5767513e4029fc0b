"""The tokens of a split that the speed pass reads: a sample of its sentences, and counts over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder, batches
from rwkv_sweep.embedding.prompts import Tokenized

SAMPLED_SENTENCES = 16_384
"""Token ids are kept of this many sentences; of a larger split of a random choice, while all are counted."""


@dataclass(frozen=True)
class SplitTokens:
    """Tokens of a split.

    Attributes:
        sample: of at most `SAMPLED_SENTENCES` sentences.
        tokens: of all sentences.
        truncated: sentences among all that were cut.
    """

    sample: Tokenized
    tokens: int
    truncated: int

    def full_batch(self, batch_tokens: int) -> Tokenized:
        """The fullest packed batch of the sample."""
        lengths = [len(ids) for ids in self.sample.ids]
        fullest = max(batches(lengths, batch_tokens), key=lambda batch: sum(lengths[index] for index in batch))
        return self.sample.select(fullest)


class TokenReader:
    """Reads splits, and keeps the last one: the jobs of a sweep mostly read the same, and no timing is of this."""

    def __init__(self) -> None:
        self._last: tuple[object, SplitTokens] | None = None

    def read(self, encoder: RwkvEncoder, split: PairSplit, seed: int) -> SplitTokens:
        """Tokens of `split`. seed: of the random choice in a large one."""
        tokenizer, end = encoder.loaded.tokenizer, encoder.loaded.end_of_text
        asked = (repr(encoder.prompt), encoder.max_tokens, end, split.fingerprint, seed)
        key = (tokenizer.name, tokenizer.fingerprint, *asked)
        if self._last is None or self._last[0] != key:
            self._last = (key, _tokens_of(encoder, split.sentences, seed))
        return self._last[1]


def _tokens_of(encoder: RwkvEncoder, sentences: Texts, seed: int) -> SplitTokens:
    count = len(sentences)
    if count <= SAMPLED_SENTENCES:
        sample = encoder.tokenize(sentences)
        return SplitTokens(sample, sample.tokens, sample.truncated)
    sample = encoder.tokenize(sentences.take(np.random.default_rng(seed).permutation(count)[:SAMPLED_SENTENCES]))
    tokens = truncated = 0
    for first in range(0, count, SAMPLED_SENTENCES):
        part = encoder.tokenize(sentences[first : first + SAMPLED_SENTENCES])
        tokens, truncated = tokens + part.tokens, truncated + part.truncated
    return SplitTokens(sample, tokens, truncated)
