"""A record read from disk, where anything may have happened to it: of the right types, or refused with a reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError

Check = Callable[[Any], str]
"""Of a value: what is wrong with it, in a few words; empty where nothing is."""

LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999, in seconds since the epoch."""
LONGEST_SHOWN = 60
_IDENTIFIER = re.compile(r"[0-9A-Za-z_.-]{0,64}")


def read_record(path: Path, checks: Mapping[str, Check], required: Collection[str]) -> dict[str, Any]:
    """The fields of a JSON object that are named in `checks`; others, of a newer version, are left out.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, is no JSON object, lacks a field, or holds one that its check refuses.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repetition)
        json.dumps(content, ensure_ascii=False).encode("utf-8")  # half a surrogate pair could not be written again
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is damaged: its values are nested too deeply") from error
    except ValueError as error:  # no JSON, no UTF-8, a number of thousands of digits, a repeated key
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds {as_json(content)}, not an object with a record's fields")
    if absent := [name for name in required if name not in content]:
        raise UserError(f"{path} is damaged: it has no {', '.join(absent)}")
    fields = {name: value for name, value in content.items() if name in checks}
    for name, value in fields.items():
        if wrong := checks[name](value):
            raise UserError(f"{path} is damaged: {name} {wrong}")
    return fields


def as_json(value: Any) -> str:
    """A value in a message: as JSON, cut off where it is long."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def text(value: Any) -> str:
    return "" if isinstance(value, str) else f"is {as_json(value)}, not a text"


def identifier(value: Any) -> str:
    """Part of folders' names, and of queries."""
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value) and ".." not in value:
        return ""
    return f"is {as_json(value)}, not an identifier"


def one_of(*valid: str) -> Check:
    return lambda value: "" if value in valid else f"is {as_json(value)}: valid are {', '.join(valid)}"


def number(value: Any) -> str:
    """A float, or what can be one; NaN and infinities are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"is {as_json(value)}, not a number"
    try:
        float(value)
    except OverflowError:
        return f"is {as_json(value)}, too large a number"
    return ""


def time(value: Any) -> str:
    if wrong := number(value):
        return wrong
    return "" if math.isfinite(value) and 0 <= value <= LAST_SECOND else f"is {as_json(value)}, not a time in seconds"


def count(value: Any) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return "" if whole else f"is {as_json(value)}, not a count"


def flag(value: Any) -> str:
    return "" if isinstance(value, bool) else f"is {as_json(value)}, not true or false"


def scalar(value: Any) -> str:
    if value is None or isinstance(value, (str, bool)):
        return ""
    return number(value)


def optional(check: Check) -> Check:
    return lambda value: "" if value is None else check(value)


def list_of(check: Check) -> Check:
    def whole(value: Any) -> str:
        if not isinstance(value, list):
            return f"is {as_json(value)}, not a list"
        return next((f"holds an item that {wrong}" for item in value if (wrong := check(item))), "")

    return whole


def dict_of(check: Check, *required: str) -> Check:
    def whole(value: Any) -> str:
        if not isinstance(value, dict):
            return f"is {as_json(value)}, not an object"
        if absent := [name for name in required if name not in value]:
            return f"has no {', '.join(absent)}"
        return next((f"{name[:LONGEST_SHOWN]} {wrong}" for name, item in value.items() if (wrong := check(item))), "")

    return whole


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError where an object has one key twice."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {as_json(repeated)} stands in it twice")
    return fields
