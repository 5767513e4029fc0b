"""End-of-text (EOS) tokens: what a model that was trained with them expects of a text, and where they stand in it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.shape import Shape
from rwkv_sweep.utils.console import log_line_once

EMBEDDING_RWKV_EOS = 65535
"""The last row of the World table, which stands for no text: EmbeddingRWKV (arXiv 2601.07861) was trained with it."""


@dataclass(frozen=True)
class EndOfText:
    """How texts are ended.

    With several tokens a text is laid out as EmbeddingRWKV's evaluation does it (howard-hou/EmbeddingRWKV 0880349,
    `embedding/eval/custom_embedding_model.py`, with a context of `count * chunk` tokens): a text of fewer than `chunk`
    tokens is read `count` times, each copy with its token; a longer one is cut into `count` equal parts; one beyond the
    context into equal windows first. A short text whose copies would be more than may be read is cut too, so that none
    is truncated in order to be repeated. No padding is read: the published code pads a batch on the left with tokens
    that the network reads.

    Attributes:
        token: its id.
        count: of such tokens in a text (in each window of a text longer than the context).
        chunk: with several of them, the tokens below which a text is repeated.
        trained: whether the model was trained to end a text so.
    """

    token: int
    count: int = 1
    chunk: int = 512
    trained: bool = True

    def __str__(self) -> str:
        tokens = "1 token" if self.count == 1 else f"{self.count} tokens"
        chunk = f", chunks of {self.chunk}" if self.count > 1 else ""
        return f"{tokens} {self.token}{chunk}" + ("" if self.trained else " (not trained with it)")

    def windows(self, tokens: int) -> int:
        """Windows that a text of so many tokens is cut into."""
        return 1 if self.count == 1 else max(1, -(-tokens // (self.count * self.chunk)))

    def most(self, max_tokens: int) -> int:
        """The longest text, in tokens, that takes no more than `max_tokens` with its end-of-text tokens; below 1 for
        none."""

        def read(tokens: int) -> int:
            return tokens + self.count * self.windows(tokens)

        return bisect.bisect_right(range(max_tokens + 1), max_tokens, key=read) - 1

    def laid_out(self, ids: Sequence[int], max_tokens: int) -> tuple[list[int], tuple[int, ...]]:
        """What is read of a text of at most `most(max_tokens)` tokens, and the places of its end-of-text tokens."""
        if self.count == 1:
            return [*ids, self.token], (len(ids),)
        if len(ids) < self.chunk and self.count * (len(ids) + 1) <= max_tokens:
            parts = [ids] * self.count
        else:
            windows = _equal_parts(ids, self.windows(len(ids)))
            parts = [part for window in windows for part in _equal_parts(window, self.count)]
        read: list[int] = []
        places: list[int] = []
        for part in parts:
            read.extend(part)
            places.append(len(read))
            read.append(self.token)
        return read, tuple(places)


def _equal_parts(ids: Sequence[int], count: int) -> list[Sequence[int]]:
    """`count` parts of the same length; the last ones may be shorter, or empty."""
    size = max(1, -(-len(ids) // count))
    return [ids[number * size : (number + 1) * size] for number in range(count)]


def end_of_text(cfg: ModelConfig, shape: Shape) -> EndOfText | None:
    """How the texts of a model are ended: as its config asks, else as its checkpoint was trained; None for not at all.

    Raises:
        UserError: an id that is not given or not in the embedding table.
    """
    trained_id = EMBEDDING_RWKV_EOS if shape.task_heads else None
    token = trained_id if cfg.eos_id is None else cfg.eos_id
    count = cfg.eos_count if cfg.eos_count is not None else int(token is not None)
    if count == 0:
        return None
    if token is None:
        raise UserError(
            f"model.eos_count={count} model.eos_id=null with a model that was trained with no end-of-text token: valid "
            "is a token id, such as model.eos_id=0 with the World vocabulary"
        )
    if token >= shape.vocab_size:
        key = "the end-of-text token" if cfg.eos_id is None else "model.eos_id"
        raise UserError(
            f"{key}={token} is not in the model's embedding table, which has {shape.vocab_size} rows: valid is "
            f"model.eos_id=0 to {shape.vocab_size - 1}, or model.eos_count=0 for none"
        )
    trained = token == trained_id
    if not trained:
        log_line_once(f"model.eos_id={token}: this model was not trained to end a text with this token")
    return EndOfText(token, count, cfg.eos_chunk, trained)
