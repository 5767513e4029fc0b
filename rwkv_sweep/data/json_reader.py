"""Records of a JSON file: one list of objects, or an object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from rwkv_sweep.data.text_lines import text_lines
from rwkv_sweep.errors import UserError, shown

_MOST_DIGITS = 4000
"""Python refuses to read an int of more than 4300 digits."""


def json_records(path: Path, lines_only: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object after its place.

    Args:
        lines_only: an object a line, whatever the first character is, and without reading the file as a whole.

    Raises:
        UserError: (while iterating) what is not JSON or not an object, or an object that names a key twice.
    """
    lines: Iterable[str] = text_lines(path) if lines_only else list(text_lines(path))
    text = "" if lines_only else "".join(lines)
    if text.lstrip().startswith("["):
        items = _list_items(text, path)
    else:
        numbered = enumerate(lines, 1)
        items = ((f"line {n}", _value(line, f"{path}, line {n}")) for n, line in numbered if line.strip())
    for place, item in items:
        if not isinstance(item, dict):
            raise UserError(f"{path}, {place}: {shown(item)} is not an object with named fields")
        if isinstance(item, _KeyTwice):
            raise UserError(f"{path}, {place}: the object names the key {shown(item.key)} more than once")
        yield place, item


class _KeyTwice(dict[str, Any]):
    """An object that names a key more than once; Python keeps the last value without a word."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.key = next(name for name in names if names.count(name) > 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    return content if len(content) == len(pairs) else _KeyTwice(pairs)


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _MOST_DIGITS else Decimal(digits)


_DECODERS = (
    json.JSONDecoder(object_pairs_hook=_object),
    json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer),
)
"""The second is slower, and reads integers of any length."""


def _value(text: str, where: str) -> Any:
    return _decoded(lambda decoder: decoder.decode(text), where)


def _list_items(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """The items of the one list that `text` is, each decoded by itself, so that an error names the item."""
    position = _after_blanks(text, text.index("[") + 1)
    number = 0
    while not text.startswith("]", position):
        number += 1
        if number > 1:
            if not text.startswith(",", position):
                raise UserError(f"{path}, item {number - 1}: not valid JSON: a comma or ] must follow it")
            position = _after_blanks(text, position + 1)
        item, position = _decoded(partial(_item_at, text=text, position=position), f"{path}, item {number}")
        yield f"item {number}", item
        position = _after_blanks(text, position)
    if text[position + 1 :].strip():
        raise UserError(f"{path}: not valid JSON: there is more after the list of {number} items")


def _item_at(decoder: json.JSONDecoder, text: str, position: int) -> Any:
    return decoder.raw_decode(text, position)


def _after_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _decoded(decode: Callable[[json.JSONDecoder], Any], where: str) -> Any:
    message = ""
    for decoder in _DECODERS:
        try:
            return decode(decoder)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON: {error}") from error
        except RecursionError as error:
            raise UserError(f"{where}: nested too deeply to be read") from error
        except ValueError as error:  # an integer of more digits than Python reads at once
            message = str(error)
    raise UserError(f"{where}: cannot be read: {message}")
