"""Sentences to token ids: the World vocabulary, raw bytes, or a tokenizer.json. No special tokens are added to these.

A tokenizer that does not belong to the model scrambles the text without an error, so nothing here is guessed: the
tokenizer lies beside the weights or is named, and must fit the embedding table.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rwkv_sweep.config.path_values import existing_file
from rwkv_sweep.errors import UserError, ends_the_program

TOKENIZER_FILE = "tokenizer.json"
KEY = "model.tokenizer"
FEW = 8
"""Up to so many sentences are encoded one by one: handing them to a library's threads takes longer than the work."""


class Tokenizer(Protocol):
    """Text to ids.

    Attributes:
        name: `world`, `bytes`, or the path of the tokenizer.json.
        vocab_size: the largest id it can produce, plus one.
        fingerprint: 16 hex digits of the SHA-256 of its content.
        prefix, suffix: ids that the model expects around every text, and that `encode` leaves out.
    """

    name: str
    vocab_size: int
    fingerprint: str
    prefix: Sequence[int]
    suffix: Sequence[int]

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The ids of each sentence; an empty sentence has none.

        Raises:
            UserError: a sentence is not valid Unicode (it holds a lone surrogate).
        """
        ...


class WorldTokenizer:
    """The greedy trie of the RWKV World models: ids 1 to 65,529; 0 ends a text and is never produced."""

    name = "world"
    prefix: Sequence[int] = ()
    suffix: Sequence[int] = ()

    def __init__(self) -> None:
        self._trie = _world_trie()
        self.vocab_size: int = self._trie.vocab_size()
        self.fingerprint = _digest(Path(self._trie.vocab_filepath).read_bytes())

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        check_unicode(sentences)
        if len(sentences) <= FEW:
            return [list(self._trie.encode(sentence)) for sentence in sentences]
        return list(self._trie.encode_batch(list(sentences)))


class BytesTokenizer:
    """The bytes of the UTF-8 text: ids 0 to 255."""

    name = "bytes"
    vocab_size = 256
    fingerprint = hashlib.sha256(b"utf-8 bytes").hexdigest()[:16]
    prefix: Sequence[int] = ()
    suffix: Sequence[int] = ()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        check_unicode(sentences)
        return [list(sentence.encode()) for sentence in sentences]


class JsonTokenizer:
    """A tokenizer.json of the `tokenizers` library, with its padding and truncation switched off.

    Args:
        path: the file.
        key: the setting that names it, for messages.

    Raises:
        UserError: the file is missing or is not a tokenizer.json.
    """

    prefix: Sequence[int] = ()
    suffix: Sequence[int] = ()

    def __init__(self, path: str | Path, key: str = KEY) -> None:
        from tokenizers import Tokenizer as Backend

        path = existing_file(key, path, "world, bytes, or the path of a tokenizer.json")
        try:
            self._backend: Any = Backend.from_file(str(path))
        except BaseException as error:  # the library raises plain Exception, and its panics are not even that
            if ends_the_program(error):
                raise
            raise UserError(f"{key}={path} is not a tokenizer.json that can be read: {error}") from error
        self._backend.no_padding()
        self._backend.no_truncation()
        self.name = str(path)
        self.vocab_size = 1 + max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1)
        self.fingerprint = _digest(path.read_bytes())

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        check_unicode(sentences)
        if len(sentences) <= FEW:
            return [list(self._backend.encode(sentence, add_special_tokens=False).ids) for sentence in sentences]
        encodings = self._backend.encode_batch(list(sentences), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]


def load_tokenizer(spec: str | None, folder: Path | None, table_size: int, key: str = KEY) -> Tokenizer:
    """The tokenizer that `spec` names, checked against the model's embedding table.

    Args:
        spec: `world`, `bytes`, the path of a tokenizer.json, or None for the tokenizer.json in `folder`.
        folder: where the weights lie; None if they are not in a folder of their own.
        table_size: rows of the embedding table.
        key: the setting that holds `spec`, for messages.

    Raises:
        UserError: no tokenizer is named or found, it cannot be read, or it has more ids than the table has rows.
    """
    tokenizer = _named(spec, folder, key)
    if tokenizer.vocab_size > table_size:
        raise UserError(
            f"{key}={tokenizer.name} has ids up to {tokenizer.vocab_size - 1}, but the model's embedding "
            f"table has {table_size} rows: valid is the tokenizer that the model was trained with"
        )
    return tokenizer


def _named(spec: str | None, folder: Path | None, key: str) -> Tokenizer:
    if spec == "world":
        return WorldTokenizer()
    if spec == "bytes":
        return BytesTokenizer()
    if spec is not None:
        return JsonTokenizer(spec, key)
    if folder is not None and (folder / TOKENIZER_FILE).is_file():
        return JsonTokenizer(folder / TOKENIZER_FILE)
    where = (
        f"there is no {TOKENIZER_FILE} in {folder}" if folder else f"there is no {TOKENIZER_FILE} beside the weights"
    )
    raise UserError(
        f"model.tokenizer=null and {where}: set model.tokenizer=world for an RWKV World model, "
        "model.tokenizer=bytes, or the path of a tokenizer.json"
    )


def check_unicode(sentences: Sequence[str]) -> None:
    """Raises UserError where a sentence holds a lone surrogate."""
    for index, sentence in enumerate(sentences):
        try:
            sentence.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"sentence {index} of the batch is not valid Unicode: {sentence!r:.80} ({error})"
            ) from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache
def _world_trie() -> Any:
    """Built once in a process: that takes half a second, and encoding changes nothing in it."""
    from pyrwkv_tokenizer import RWKVTokenizer

    return RWKVTokenizer()
