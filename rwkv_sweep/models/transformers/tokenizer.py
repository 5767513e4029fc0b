"""The tokenizer that a repository of `transformers` brings."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError, ends_the_program
from rwkv_sweep.models.pretrained.tokenizers import check_unicode
from rwkv_sweep.utils.files import file_stamp

UNLIMITED = 10**9
"""Tokenizers without a longest text say 10^30."""


class HfTokenizer:
    """A repository's own tokenizer. What it puts around a text ([CLS] and [SEP], <s>) is in `prefix` and `suffix`.

    Raises:
        UserError: there is none in the folder, or it adds special tokens elsewhere than around a text.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from transformers import AutoTokenizer

        try:
            self._inner: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except BaseException as error:  # each kind of tokenizer has errors of its own, a panic is not even an Exception
            if ends_the_program(error):
                raise
            raise UserError(
                f"{folder} holds no tokenizer that transformers can read ({first_line_of(error)})"
            ) from error
        self.name, self.vocab_size = name, len(self._inner)
        self.longest: int | None = self._inner.model_max_length if self._inner.model_max_length < UNLIMITED else None
        self.pad_id: int = self._inner.pad_token_id or 0
        bare, whole = self._ids(["a"], False)[0], self._ids(["a"], True)[0]
        at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), None)
        if at is None:
            raise UserError(f"tokenizer {name} makes {whole} of a text with the ids {bare}: valid are ids around these")
        self.prefix: Sequence[int] = whole[:at]
        self.suffix: Sequence[int] = whole[at + len(bare) :]
        backend = getattr(self._inner, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else json.dumps(sorted(self._inner.get_vocab().items()))
        digest = hashlib.sha256(content.encode() + repr((self.prefix, self.suffix)).encode())
        self.fingerprint = digest.hexdigest()[:16]

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        check_unicode(sentences)
        return self._ids(list(sentences), False) if sentences else []

    def _ids(self, sentences: list[str], around: bool) -> list[list[int]]:
        # Truncation and its warning are not the tokenizer's business here: see `rwkv_sweep.embedding.prompts`.
        encoded = self._inner(sentences, add_special_tokens=around, return_attention_mask=False, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]


def read_tokenizer(folder: Path, name: str) -> HfTokenizer:
    """The tokenizer in `folder`; one that was read before and lies there unchanged is handed out again.

    Args:
        name: for messages and tags.

    Raises:
        UserError: see `HfTokenizer`.
    """
    return _read(folder, name, file_stamp(folder))


@functools.lru_cache(maxsize=4)
def _read(folder: Path, name: str, stamp: object) -> HfTokenizer:
    return HfTokenizer(folder, name)


def first_line_of(error: BaseException) -> str:
    """An error of a library, short enough for a message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.160}"
