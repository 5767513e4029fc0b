"""Passwords and tokens taken out of text: a tracking URI may hold them, and text ends up in logs, tags and files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

HIDDEN = "***"

# Up to the last @ before a blank or quote: a password may itself hold an @ or a slash. Hydra puts a backslash before
# the colons of an override's value.
_USER_INFO = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*\\?://)[^\s'\"<>]*@")
_SECRETS = "password|passwd|secret|token|api_?key|signature"
_PARAMETER = re.compile(rf"(?P<name>[?&;]\w*(?:{_SECRETS})=)[^\s'\"&;<>]+", re.I)


def redact(text: str) -> str:
    """The same text with the user part of every URI, and parameters that look like secrets, replaced by `***`."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\g<name>{HIDDEN}", _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", text))


def redact_files(files: Iterable[Path]) -> None:
    """Redact small text files in place (Hydra writes the whole config and the overrides beside each run).

    Files that are absent, and those without a secret, are left alone.
    """
    # Imported here: `terminal` uses this module, and the records' room uses `terminal`.
    from rwkv_sweep.results import write_atomically

    for file in files:
        with contextlib.suppress(FileNotFoundError):
            text = file.read_text(encoding="utf-8")
            if (clean := redact(text)) != text:
                write_atomically(file, clean)
