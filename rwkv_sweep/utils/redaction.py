"""Passwords and tokens taken out of text, in whatever form they stand in it.

A process remembers the secrets it was given (`SECRETS.remember_uri` and the like). `redact` hides them in text, escaped
or not (JSON, YAML, HTML, a shell, Hydra, URIs), and besides whatever looks like a secret in a URI that it was not
given.

A secret of fewer than 4 characters, a number of fewer than 8, and a word that the program's own text holds anyway
(`mlflow`, `mean`, a part of the folder's name) is hidden where it stands in a URI or beside its name: `//***@`,
`pwd=***`. Elsewhere it cannot be distinguished from other text.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rwkv_sweep.utils.uri_secrets import (
    PARAMETER_NAMES,
    Secret,
    secrets_of_environment,
    secrets_of_uri,
    uris_of_command,
)

HIDDEN = "***"
MIN_ALONE, MIN_NUMBER = 4, 8
"""Characters from which on a secret, or one of digits alone, is hidden wherever it stands."""

# Up to the last @ before a blank or quote: a password may itself hold an @ or a slash. Hydra puts a backslash before
# the colons of an override's value.
_USER_INFO = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*\\?://)[^\s'\"<>]*@")
_SEPARATOR = r"(?:[?&;]|%(?:25)*(?:3F|26|3B)|&amp;)"
_EQUALS = r"\\*(?:=|%(?:25)*3D)"
_PARAMETER = re.compile(
    rf"(?P<name>{_SEPARATOR}(?:{PARAMETER_NAMES}){_EQUALS})(?!\*\*\*)(?:(?!%(?:25)*(?:26|3B))[^\s'\"&;<>])+", re.I
)
_NUMBER = re.compile(r"[0-9a-f.,:+_ -]*", re.I)
_LINE_BREAK = r"(?:\\+\n\s*\\?)?"
"""Within a string in YAML's double quotes, a line may end anywhere."""
_QUOTES = "\\'\""


class KnownSecrets:
    """Secrets to hide, and the patterns that hide them."""

    def __init__(self) -> None:
        self.forget_all()

    def forget_all(self) -> None:
        """Remember nothing any more."""
        self._secrets: dict[Secret, None] = {}
        self._ordinary: dict[str, None] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []

    def remember_uri(self, uri: str) -> None:
        """Hide the secrets of a URI from now on."""
        self.remember(secrets_of_uri(uri))

    def remember_environment(self, environment: Mapping[str, str]) -> None:
        """Hide the secrets of environment variables from now on: passwords, tokens, keys, and those within URIs."""
        secrets = list(secrets_of_environment(environment))
        user, password = (environment.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
        if password:
            # As HTTP's basic authentication sends it.
            secrets.append(Secret(base64.b64encode(f"{user}:{password}".encode()).decode().rstrip("="), alone=True))
        self.remember(secrets)

    def remember_command(self, arguments: Iterable[str]) -> None:
        """Hide the secrets of URIs among a command line's overrides from now on."""
        for uri in uris_of_command(arguments):
            self.remember_uri(uri)

    def remember_ordinary(self, words: Iterable[str]) -> None:
        """Texts that are seen in any case, and so hide nothing: a secret that is part of one is hidden in URIs
        alone."""
        added = {word.casefold(): None for word in words if len(word) >= MIN_ALONE}
        if not added.keys() <= self._ordinary.keys():
            self._ordinary.update(added)
            self._compile()

    def remembered(self) -> list[Secret]:
        """All secrets, for another process that is to hide them too."""
        return list(self._secrets)

    def remember(self, secrets: Iterable[Secret]) -> None:
        """Hide these from now on, such as what `remembered` gave in another process."""
        added = [secret for secret in secrets if secret.value not in ("", HIDDEN) and secret not in self._secrets]
        if added:
            self._secrets.update(dict.fromkeys(added))
            self._compile()

    def redact(self, text: str) -> str:
        """The same text with every secret replaced by `***`: the remembered ones, the user part of every URI, and
        parameters that by their name are secrets."""
        for pattern, hidden in self._patterns:
            text = pattern.sub(hidden, text)
        if "://" in text or "\\://" in text:
            text = _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", text)
        return _PARAMETER.sub(rf"\g<name>{HIDDEN}", text) if "=" in text or "%3" in text else text

    def _compile(self) -> None:
        """Longer texts first: one may be part of another."""
        patterns: dict[tuple[str, str], int] = {}
        for secret in self._secrets:
            text = _any_form(secret.value)
            if secret.user_part:
                patterns[f"(?P<kept>{_any_form('//')}){text}(?={_any_form('@')})", rf"\g<kept>{HIDDEN}"] = 10**9
            if secret.name:
                patterns[
                    f"(?P<kept>(?:{_SEPARATOR}|(?<!\\w)){_any_form(secret.name)}{_EQUALS}){text}", rf"\g<kept>{HIDDEN}"
                ] = 10**6
            if secret.alone and self._stands_alone(secret.value):
                patterns[text, HIDDEN] = len(secret.value)
        longest_first = sorted(patterns.items(), key=lambda item: (item[1], len(item[0][0])), reverse=True)
        self._patterns = [(re.compile(pattern, re.I), hidden) for (pattern, hidden), _ in longest_first]

    def _stands_alone(self, value: str) -> bool:
        """Whether a secret is long and unusual enough to be hidden wherever it stands."""
        plain = value.strip().casefold()
        if len(plain) < MIN_ALONE or (len(plain) < MIN_NUMBER and _NUMBER.fullmatch(plain)):
            return False
        return not any(plain in word for word in self._ordinary)


SECRETS = KnownSecrets()
"""Of this process. Whatever writes a text must hide them (any logger, Hydra, a library's warning, both streams), and
most of these cannot be handed anything."""
redact = SECRETS.redact


def redact_all(value: Any) -> Any:
    """A copy of nested dicts, lists and tuples with every string in them redacted; keys and numbers stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_all(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(inner) for inner in value]
    return value


def redact_files(files: Iterable[Path]) -> None:
    """Redact small text files in place: what others wrote in a process that knew no secrets yet.

    Files that are absent, and those without a secret, are left alone.
    """
    # Imported here: `terminal` uses this module, and the package of records uses `terminal`.
    from rwkv_sweep.utils.files import write_atomically

    for file in files:
        with contextlib.suppress(FileNotFoundError):
            text = file.read_text(encoding="utf-8")
            if (clean := redact(text)) != text:
                write_atomically(file, clean)


def _any_form(text: str) -> str:
    """A regular expression for a text, each character of which may be escaped: for a URI (also twice), JSON, YAML,
    HTML, Python, a shell, Hydra or Markdown; a line may be broken at a blank."""
    parts = []
    for kind, run in itertools.groupby(text, _kind):
        characters = list(run)
        if kind == "quote":
            # Doubled, closed and opened again, or with backslashes: each way more of the same.
            one = "|".join(dict.fromkeys(form for character in _QUOTES for form in _forms(character)))
            parts.append(f"(?:{one}){{{len(characters)},}}?")
        elif kind == "blank":
            own = "|".join(dict.fromkeys(form for character in characters for form in _forms(character)))
            parts.append(rf"(?:\s|\\+[nrt ]|\+|&nbsp;|{own})+")
        else:
            parts += [f"(?:{'|'.join(_forms(character))})" for character in characters]
    return _LINE_BREAK.join(parts)


def _kind(character: str) -> str:
    return "quote" if character in _QUOTES else "blank" if character.isspace() else "other"


def _forms(character: str) -> list[str]:
    entities = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
    code = ord(character)
    encoded = character.encode("utf-8", "surrogateescape" if 0xDC80 <= code <= 0xDCFF else "surrogatepass")
    forms = [re.escape(character), "".join(f"%(?:25)*{byte:02x}" for byte in encoded), f"\\\\+u{code:04x}"]
    if not character.isalnum() and character not in _QUOTES:
        forms[0] = rf"\\*{forms[0]}"
    if not character.isascii() or not character.isalnum():
        forms += [f"&#{code};", f"&#x{code:x};", f"\\\\+x{code:02x}", f"\\\\+U{code:08x}"]
        if code > 0xFFFF:
            high, low = divmod(code - 0x10000, 0x400)
            forms.append(f"\\\\+u{0xD800 + high:04x}\\\\+u{0xDC00 + low:04x}")
        forms += [f"&{entities[character]};"] if character in entities else []
    return forms
