"""What the model reads in place of the bare sentence, and which of its tokens are pooled.

Shapes: S sentences in all, B of them chosen.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rwkv_sweep.config.schema import PromptConfig
from rwkv_sweep.errors import NoTokensError, UserError
from rwkv_sweep.models.common.end_of_text import EndOfText
from rwkv_sweep.models.pretrained.tokenizers import Tokenizer

SLOT = "{sentence}"
Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tokenized:
    """What is read of S sentences.

    Attributes:
        ids: token ids of each, the prompt's among them.
        spans: [start, end) of the tokens that are pooled, at least one of each sentence.
        truncated: how many sentences were cut so that no more tokens are read than allowed.
        ends: places of the end-of-text tokens of each; empty where texts have none.
    """

    ids: list[list[int]]
    spans: list[tuple[int, int]]
    truncated: int
    ends: Sequence[Sequence[int]] = ()

    @property
    def tokens(self) -> int:
        """All tokens that are read, the prompt's among them."""
        return sum(len(ids) for ids in self.ids)

    @functools.cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All ids end to end, where each sentence starts among them, and how many it has; int64."""
        lengths_S = np.array([len(ids) for ids in self.ids], dtype=np.int64)
        ends_S = np.cumsum(lengths_S)
        total = int(ends_S[-1]) if len(ends_S) else 0
        flat = np.fromiter(itertools.chain.from_iterable(self.ids), dtype=np.int64, count=total)
        return flat, ends_S - lengths_S, lengths_S

    def packed_ids(self, rows: Sequence[int]) -> np.ndarray:
        """The ids of some of the sentences end to end, int64 [T].

        The lists of ids are walked once for all calls, so that a batch is laid out faster than a GPU runs one.
        """
        flat, starts_S, lengths_S = self._flat
        chosen = np.asarray(rows, dtype=np.int64)
        lengths_B = lengths_S[chosen]
        before_B = np.cumsum(lengths_B) - lengths_B
        return flat[np.repeat(starts_S[chosen] - before_B, lengths_B) + np.arange(int(lengths_B.sum()))]

    def select(self, rows: Sequence[int]) -> Tokenized:
        """Some of the sentences; `truncated` stays that of all."""
        ids, spans = [self.ids[row] for row in rows], [self.spans[row] for row in rows]
        return Tokenized(ids, spans, self.truncated, [self.ends[row] for row in rows] if self.ends else ())


def tokenize(
    prompt: PromptConfig,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    max_tokens: int,
    end: EndOfText | None = None,
) -> Tokenized:
    """The filled template of each sentence, in at most `max_tokens` ids.

    Too long a text loses the end of its sentence, of every copy the same, and never a part of the template.

    With span `all` the filled template is tokenized as one text. With span `second`, and for a template whose sentence
    is cut, the sentence and the pieces of the template around it are tokenized apart and laid end to end. So a span
    begins and ends between two tokens with any tokenizer, and all copies of a sentence have the same ids; the price is
    that no token reaches across such a border, as a word together with the space before it would.

    What the tokenizer puts around every text (`prefix`, `suffix`) survives truncation, and is pooled with span `all`.
    So do end-of-text tokens; several of them repeat or cut the filled template, see `EndOfText`.

    Args:
        end: how texts are ended; of a tokenizer without prefix and suffix.

    Raises:
        NoTokensError: the tokenizer makes nothing of a sentence.
        UserError: the template leaves no token for a sentence.
    """
    if end is not None:
        return _ended(prompt, tokenizer, sentences, max_tokens, end)
    around = len(tokenizer.prefix) + len(tokenizer.suffix)
    if not around:
        return _tokenize(prompt, tokenizer, sentences, max_tokens)
    if max_tokens <= around:
        raise UserError(
            f"max_tokens={max_tokens} leaves no room for a sentence beside the {around} special tokens of tokenizer "
            f"{tokenizer.name}: valid is {around + 1} or more"
        )
    bare = _tokenize(prompt, tokenizer, sentences, max_tokens - around)
    ids = [[*tokenizer.prefix, *tokens, *tokenizer.suffix] for tokens in bare.ids]
    before = len(tokenizer.prefix)
    spans = [(start + before, end + before) for start, end in bare.spans]
    if prompt.span == "all":
        spans = [(0, len(tokens)) for tokens in ids]
    return Tokenized(ids, spans, bare.truncated)


def _ended(
    prompt: PromptConfig, tokenizer: Tokenizer, sentences: Sequence[str], max_tokens: int, end: EndOfText
) -> Tokenized:
    bare = _tokenize(prompt, tokenizer, sentences, end.most(max_tokens))
    laid_out = [end.laid_out(tokens, max_tokens) for tokens in bare.ids]
    ids = [tokens for tokens, _ in laid_out]
    spans = bare.spans if prompt.span != "all" else [(0, len(tokens)) for tokens in ids]
    return Tokenized(ids, spans, bare.truncated, [places for _, places in laid_out])


def _tokenize(prompt: PromptConfig, tokenizer: Tokenizer, sentences: Sequence[str], max_tokens: int) -> Tokenized:
    """Without what the tokenizer puts around every text."""
    if prompt.span == "second":
        return _apart(prompt, tokenizer, sentences, max_tokens)
    ids = tokenizer.encode([prompt.template.replace(SLOT, sentence) for sentence in sentences])
    _check_some(
        sentences, [tokens if sentence else [] for sentence, tokens in zip(sentences, ids, strict=True)], tokenizer
    )
    long = [row for row, tokens in enumerate(ids) if len(tokens) > max_tokens]
    truncated = len(long)
    if prompt.template == SLOT:
        ids = [tokens[:max_tokens] for tokens in ids]
    elif long:
        cut = _apart(prompt, tokenizer, [sentences[row] for row in long], max_tokens)
        truncated = cut.truncated
        for row, tokens in zip(long, cut.ids, strict=True):
            ids[row] = tokens
    return Tokenized(ids, [(0, len(tokens)) for tokens in ids], truncated)


def _apart(prompt: PromptConfig, tokenizer: Tokenizer, sentences: Sequence[str], max_tokens: int) -> Tokenized:
    """Template and sentences tokenized apart; the spans are of the second copy, or of the first if it is alone."""
    pieces = tokenizer.encode(prompt.template.split(SLOT))
    copies, own = len(pieces) - 1, sum(map(len, pieces))
    most = (max_tokens - own) // copies
    if most < 1:
        raise UserError(
            f"max_tokens={max_tokens} leaves no room for a sentence beside the {own} tokens of "
            f"prompt.template={prompt.template}: valid is {own + copies} or more"
        )
    own_ids = tokenizer.encode(sentences)
    _check_some(sentences, own_ids, tokenizer)
    ids, spans, truncated = [], [], 0
    for tokens in own_ids:
        kept = tokens[:most]
        truncated += len(tokens) > most
        ids.append(pieces[0] + [token for piece in pieces[1:] for token in kept + piece])
        start = len(pieces[0]) + (len(kept) + len(pieces[1]) if copies > 1 else 0)
        spans.append((start, start + len(kept)))
    return Tokenized(ids, spans, truncated)


def _check_some(sentences: Sequence[str], ids: Sequence[Sequence[int]], tokenizer: Tokenizer) -> None:
    """Raises NoTokensError where a sentence has no ids."""
    if rows := [row for row, tokens in enumerate(ids) if not tokens]:
        raise NoTokensError(f"sentence {sentences[rows[0]]!r} has no tokens in tokenizer {tokenizer.name}", rows)


def tokenized_parts(
    tokens_of: Callable[[Sequence[str]], Tokenized], sentences: Sequence[str], size: int, ahead: bool
) -> Iterator[tuple[slice, Tokenized]]:
    """The sentences in parts of `size`: their places and their tokens.

    Args:
        tokens_of: tokenizes a part.
        ahead: whether a thread tokenizes the next part while the caller uses this one.

    Raises:
        NoTokensError, UserError: see `tokenize`; rows are those of all sentences.
    """

    def part_from(first: int) -> tuple[slice, Tokenized]:
        rows = slice(first, first + size)
        try:
            return rows, tokens_of(sentences[rows])
        except NoTokensError as error:
            raise NoTokensError(str(error), [first + row for row in error.rows]) from error

    starts = range(0, len(sentences), size)
    return one_ahead(part_from, starts) if ahead else map(part_from, starts)


def one_ahead(function: Callable[[Argument], Result], arguments: Iterable[Argument]) -> Iterator[Result]:
    """`map(function, arguments)`, where a thread computes the next result while the caller uses this one.

    Raises:
        whatever `function` raises, when the caller asks for that result.
    """
    with ThreadPoolExecutor(1) as thread:
        pending: Future[Result] | None = None
        for argument in arguments:
            following = thread.submit(function, argument)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
