"""What callers hand to an encoder, as a list of texts; and arguments that it does not have."""

from __future__ import annotations

import difflib
import inspect
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from rwkv_sweep.config.params import RUN_KEYS
from rwkv_sweep.errors import UserError

VALID = "valid are a string, a list of strings, or batches with a list of strings under `text`"
ALIKE = {"normalize": "normalize_embeddings", "layer": "layers", "dim": "truncate_dim", "progress": "show_progress_bar"}
"""Names that are often tried, and the argument that does it."""
KEYS = RUN_KEYS - {"layer", "precision"}


def as_texts(sentences: Any) -> tuple[list[str], bool]:
    """All texts, in order, and whether a single one was given.

    Args:
        sentences: a string; strings in any ordered collection or iterator; or mappings with a string, or a list of
            strings, under `text`, which `mteb` and `datasets` give.

    Raises:
        TypeError: what is no text, with its index.
        UserError: a text that is not valid Unicode (it holds a lone surrogate), with its index.
    """
    if isinstance(sentences, np.ndarray) and sentences.ndim == 0:
        sentences = sentences.item()
    if isinstance(sentences, Mapping):
        single = isinstance(sentences.get("text"), str)
        texts = list(_texts([sentences]))
    else:
        single = isinstance(sentences, str)
        texts = list(_texts([sentences] if single else _ordered(sentences)))
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"sentences[{index}]={reprlib.repr(text)} is not valid Unicode: valid is text without lone surrogates"
            ) from error
    return texts, single


def arguments_of(method: Callable[..., Any]) -> list[str]:
    """Names of what a method takes beside the sentences."""
    parameters = inspect.signature(method).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.name not in ("self", "sentences") and parameter.kind != parameter.VAR_KEYWORD
    ]


def refuse_unknown(method: str, unknown: Collection[str], valid: Collection[str]) -> None:
    """Raises TypeError for the first of `unknown`, with what would be valid."""
    for name in unknown:
        hint = ALIKE.get(name) or next(iter(difflib.get_close_matches(name, valid, 1)), None)
        if name in KEYS:
            advice = f'it is chosen with the encoder, Encoder.from_config("{name}=...")'
        else:
            advice = f"did you mean {hint}? valid are" if hint in valid else "valid are"
            advice += f" {', '.join(valid)}"
        raise TypeError(f"{method} has no argument {name}: {advice}")


def require_count(name: str, value: Any, most: int | None = None) -> None:
    """Raises UserError unless `value` is None or a whole number from 1 to `most`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if value is not None and not (whole and 1 <= value <= (value if most is None else most)):
        raise UserError(f"{name}={value!r} is not valid: valid are 1 {'or more' if most is None else f'to {most}'}")


def _ordered(sentences: Any) -> Iterable[Any]:
    kind = type(sentences).__name__
    if isinstance(sentences, (bytes, bytearray, memoryview)):
        raise TypeError(f"sentences is of type {kind}, not text: decode it, such as sentences.decode()")
    if isinstance(sentences, Set):
        raise TypeError(f"sentences is of type {kind}, whose order is not defined: {VALID}")
    if hasattr(sentences, "columns") and not hasattr(sentences, "column_names"):
        raise TypeError(f"sentences is of type {kind}, with several columns: give the one that holds the texts")
    if not isinstance(sentences, Iterable):
        raise TypeError(f"sentences={reprlib.repr(sentences)} is of type {kind}: {VALID}")
    return sentences


def _texts(items: Iterable[Any]) -> Iterator[str]:
    index = 0
    for item in items:
        batch = item.get("text", item) if isinstance(item, Mapping) else item
        if isinstance(batch, Mapping):
            raise TypeError(
                f"sentences[{index}] has no `text`, but {', '.join(map(repr, batch)) or 'nothing'}: {VALID}"
            )
        texts = batch if isinstance(item, Mapping) and isinstance(batch, (list, tuple, np.ndarray)) else [batch]
        for text in texts:
            if not isinstance(text, str):
                shown = f"{reprlib.repr(text)} ({type(text).__name__})"
                raise TypeError(f"sentences[{index}] is {shown}, not a text: valid are strings")
            yield str(text)
            index += 1
