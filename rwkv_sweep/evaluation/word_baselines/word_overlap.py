"""Word overlap, the baseline that looks at no meaning at all, and the cut of text into words that baselines share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import regex

from rwkv_sweep.config.schema import WORD_SPLITS, require_one_of

# Scripts written without spaces between words. Complex context is Unicode's class of those of South East Asia (Thai,
# Lao, Khmer, Myanmar and others). A dictionary would be needed to find their words, so each letter stands for itself.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Line_Break=Complex_Context}"
_LETTER = rf"[[\w\p{{N}}]--[{_UNSPACED}]]"
# Initials (u.s.), numbers (1,000 and 0.4), a letter of those scripts with its marks, clitics ('s), words with their
# hyphens, then any other mark by itself. That is nearly how MRPC's own text and GloVe's vocabulary are cut; apart at
# every mark, numbers and initials lose theirs. Other than in `re`, \w holds combining marks, without which words of
# Hindi, vowelled Hebrew or decomposed French fall into pieces.
_WORD = regex.compile(
    r"(?V1)(?:[a-z]\.){2,}|\d+(?:[.,:/]\d+)+"
    rf"|[{_UNSPACED}][\p{{M}}\N{{KATAKANA-HIRAGANA PROLONGED SOUND MARK}}]*"
    rf"|'{_LETTER}+|{_LETTER}+(?:-{_LETTER}+)*|[^\w\s\p{{N}}]\p{{M}}*"
)


def split_words(text: str, word_split: str) -> list[str]:
    """Lower-cased words of a text.

    Args:
        word_split: `whitespace` cuts at white space alone, as the study does; right where words and punctuation stand
            apart already. `punctuation` cuts ordinary text too, where "said." would be a word nobody knows; scripts
            without spaces between words (Chinese, Japanese, Thai, ...) become single letters with their marks.

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
