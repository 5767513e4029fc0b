"""Config groups under the names that they had before, so that an old command ends in a line with the new name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rwkv_sweep.config.hydra_store import conf_dir
from rwkv_sweep.errors import UserError

RENAMED_GROUPS = {"arm": "configuration"}
"""New name by old name."""

_NAMES = "|".join(RENAMED_GROUPS)
# The parts of Hydra's own messages that name a key or a group which does not exist, with its option where they have it.
_UNKNOWN = re.compile(
    rf"(?:To append to your config use \+(?P<appended>{_NAMES})=(?P<value>\S+)"
    rf"|Override \+*(?P<grouped>{_NAMES})@\S*?=(?P<option>\S+) looks like a config group"
    rf"|Could not find '(?P<missing>{_NAMES})/(?P<file>[^']+)'"
    rf"|Key '(?P<key>{_NAMES})' not in 'RunConfig'"
    rf"|Could not delete from config\. '(?P<deleted>{_NAMES})' does not exist)"
)


def refuse_renamed(composed: Mapping[Any, Any]) -> None:
    """Refuse a composed config that has the old name of a group as a key of its own, as `+arm=…` adds it.

    Raises:
        UserError: with the new name and its options.
    """
    for old in RENAMED_GROUPS:
        if old in composed:
            raise UserError(_message(old, composed[old]))


def renamed_group(hydra_message: str) -> str | None:
    """One line in place of Hydra's message, where that is about the old name of a group."""
    match = _UNKNOWN.search(hydra_message)
    if match is None:
        return None
    parts = match.groupdict()
    old = next(parts[part] for part in ("appended", "grouped", "missing", "key", "deleted") if parts[part])
    return _message(old, parts["value"] or parts["option"] or parts["file"])


def _message(old: str, value: Any) -> str:
    new = RENAMED_GROUPS[old]
    options = ", ".join(sorted(path.stem for path in (conf_dir() / new).glob("*.yaml")))
    given = old if value is None else f"{old}={value!s:.40}"
    return f"{given}: the group {old} is called {new} now; valid is {new}=OPTION, with one of {options}"
