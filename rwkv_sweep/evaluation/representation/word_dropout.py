"""Two views of a sentence: copies of which words were dropped at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import regex

RATE = 0.2
"""Share of the words that is dropped, each on its own."""
# As in word overlap, a letter of a script that puts no spaces between words stands for a word.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Line_Break=Complex_Context}]"
_WORD = regex.compile(rf"(?V1){_UNSPACED}\p{{M}}*\s*|(?:(?!{_UNSPACED})\S)+\s*")


def two_views(sentences: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Two copies of each sentence without a fifth of its words, dropped independently; at least one word stays.

    A word goes together with the white space behind it. The views of a sentence depend on the seed, its text and its
    place among the sentences.
    """
    random = np.random.default_rng(seed)
    views: tuple[list[str], list[str]] = ([], [])
    for sentence in sentences:
        words = _WORD.findall(sentence)
        for view in views:
            view.append(_dropped(sentence, words, random))
    return views


def _dropped(sentence: str, words: Sequence[str], random: np.random.Generator) -> str:
    if not words:
        return sentence
    kept = random.random(len(words)) >= RATE
    if not kept.any():
        kept[random.integers(len(words))] = True
    return "".join(word for word, stays in zip(words, kept, strict=True) if stays).strip()
