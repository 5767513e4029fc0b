"""Word overlap, the baseline that looks at no meaning at all, and the cut of text into words that baselines share."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rwkv_sweep.config import WORD_SPLITS, require_one_of

# Initials (u.s.), numbers (1,000 and 0.4), clitics ('s), words with their hyphens, then any other mark by itself. That
# is nearly how MRPC's own text and GloVe's vocabulary are cut; apart at every mark, numbers and initials lose theirs.
_WORD = re.compile(r"(?:[a-z]\.){2,}|\d+(?:[.,:/]\d+)+|'\w+|\w+(?:-\w+)*|[^\w\s]")


def split_words(text: str, word_split: str) -> list[str]:
    """Lower-cased words of a text.

    Args:
        word_split: `whitespace` cuts at white space alone, as the study does; right where words and punctuation stand
            apart already. `punctuation` cuts ordinary text too, where "said." would be a word nobody knows.

    Raises:
        UserError: another `word_split`.
    """
    require_one_of("dataset.word_split", word_split, WORD_SPLITS)
    lower = text.lower()
    return lower.split() if word_split == "whitespace" else _WORD.findall(lower)


def word_overlap(sentences1: Sequence[str], sentences2: Sequence[str], word_split: str = "whitespace") -> np.ndarray:
    """Jaccard index of the two sets of words of each pair, float64 [P], from 0 (none shared) to 1 (the same words).

    Two sentences without any word share none: 0.

    Raises:
        UserError: an unknown `word_split`.
    """
    return np.array([_jaccard(first, second, word_split) for first, second in zip(sentences1, sentences2, strict=True)])


def _jaccard(first: str, second: str, word_split: str) -> float:
    a, b = set(split_words(first, word_split)), set(split_words(second, word_split))
    return len(a & b) / len(a | b) if a or b else 0.0
