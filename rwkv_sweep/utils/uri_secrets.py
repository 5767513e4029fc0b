"""Which parts of a URI, of a command line and of the environment are secrets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus, urlsplit

PARAMETER_NAMES = (
    r"\w*(?:password|passwd|passphrase|pwd|secret|token|api_?key|access_?key|account_?key|credentials?|signature)"
    r"|pass|key|auth|authorization|sig|pw"
)
"""Names of parameters, as a regular expression, whose values are taken for secrets in any text."""
_HARMLESS = """
    host hostaddr port user username uid dbname database db server service driver dialect dsn app application_name
    charset client_encoding encoding collation schema region plugin unix_socket options mode cache uri nolock vfs
    immutable timeout connect_timeout read_timeout write_timeout login_timeout connection_timeout keepalives
    keepalives_idle keepalives_interval keepalives_count tcp_user_timeout target_session_attrs isolation_level
    check_same_thread autocommit local_infile use_unicode ssl sslmode sslrootcert sslcert sslkey sslcrl ssl_ca
    ssl_cert ssl_key ssl_capath ssl_cipher ssl_check_hostname ssl_disabled ssl_verify_cert ssl_verify_identity
    gssencmode krbsrvname requirepeer channel_binding encrypt trustservercertificate trusted_connection
    multisubnetfailover mars_connection odbc_connect
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Parameters of database URIs that hold no secret; the value of any other may be one."""
_ENVIRONMENT = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET"
    r"|(?:^|_)(?:PASS|PWD|TOKEN|APIKEY|CREDENTIALS?|SIGNATURE|AUTH|(?:API|ACCESS|ACCOUNT|PRIVATE)_KEY|CONNECTION_STRING)(?:_|$)",
    re.I,
)
_FOLDERS = ("PWD", "OLDPWD")

_URI = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)\\*:\\*/\\*/(?P<rest>.*)", re.S)
_ODBC_PART = re.compile(r"\s*(?P<name>[^=;]+?)\s*=\s*(?P<value>\{(?:[^}]|\}\})*\}|[^;]*)(?:;|$)")
_WITHOUT_MEANING = ("", "x-oauth-basic", "x-access-token", "oauth2")
"""Passwords of hosts that take a token as the name of the user."""


@dataclass(frozen=True)
class Secret:
    """A text that must not be seen.

    Attributes:
        value: decoded, as the server gets it.
        name: of the parameter whose value it is; empty for the user part of a URI, or where it may stand by itself.
        user_part: it is what stands between `//` and `@`.
        alone: it is to be hidden wherever it stands, not just beside its name or within a URI.
    """

    value: str
    name: str = ""
    user_part: bool = False
    alone: bool = False


def secrets_of_uri(uri: str) -> Iterator[Secret]:
    """All secrets of a URI: its user part, and each parameter that is not known to be harmless.

    Where it is ambiguous (an unescaped @, / or ? in a password), all readings count.
    """
    match = _URI.search(uri)
    if match is None:
        return
    rest = match["rest"]
    for user_part in _user_parts(uri, rest):
        yield Secret(unquote(user_part), user_part=True)
        user, colon, password = user_part.partition(":")
        if not colon or unquote(password) in _WITHOUT_MEANING:
            yield Secret(unquote(user), alone=True)
        else:
            yield Secret(unquote(password), alone=True)
            # What a library takes for a host or a path where the password holds their delimiters.
            yield from (Secret(unquote(part), alone=True) for part in re.split(r"[@/?#:]", password))
    for piece in re.split(r"[?&;]", rest)[1:]:
        name, equals, value = piece.partition("=")
        if equals:
            yield from _of_parameter(unquote_plus(name), value)


def _user_parts(uri: str, rest: str) -> list[str]:
    """What may stand before the host: up to the first @ (SQLAlchemy), the authority's last (RFC 3986), the last."""
    user_parts = []
    if "@" in rest:
        # An @ behind the question mark belongs to a parameter, unless there is none before.
        before_query = rest.partition("?")[0]
        last = before_query if "@" in before_query else rest
        user_parts = [rest.partition("@")[0], last.rpartition("@")[0]]
    with contextlib.suppress(ValueError):  # brackets that hold no address
        user_parts.append(urlsplit(uri).netloc.rpartition("@")[0])
    return list(dict.fromkeys(filter(None, user_parts)))


def _of_parameter(name: str, value: str) -> Iterator[Secret]:
    decoded = unquote_plus(value)
    if name.lower() == "odbc_connect":
        for part in _ODBC_PART.finditer(decoded):
            inner = part["value"]
            if inner.startswith("{") and inner.endswith("}"):
                inner = inner[1:-1]
            if part["name"].lower().replace(" ", "_") not in HARMLESS:
                yield from (Secret(text, part["name"], alone=True) for text in {inner, inner.replace("}}", "}")})
    elif decoded and name.lower() not in HARMLESS:
        yield Secret(decoded, name, alone=True)
        if decoded != value:
            yield Secret(value, name, alone=True)


def secrets_of_environment(environment: Mapping[str, str]) -> Iterator[Secret]:
    """Values of variables whose names mark them as secrets, and the secrets of URIs among the values."""
    for name, value in environment.items():
        if "://" in value:
            yield from secrets_of_uri(value)
        elif name not in _FOLDERS and _ENVIRONMENT.search(name) and not value.startswith(("/", "~", "./")):
            yield Secret(value, alone=True)


def uris_of_command(arguments: Iterable[str]) -> Iterator[str]:
    """Every URI among a command line's overrides, read as Hydra reads them; as typed where it cannot be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for argument in arguments:
        if not _URI.search(argument):
            continue
        try:
            override = parser.parse_override(argument)
            values = list(_texts(override.sweep_iterator() if override.is_sweep_override() else [override.value()]))
        except (HydraException, ValueError, TypeError, RecursionError):
            values = [argument.partition("=")[2].strip("\"'"), argument]
        yield from (value for value in values if _URI.search(value))


def _texts(value: object) -> Iterator[str]:
    """Every string within a value of Hydra's grammar."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        yield value.text
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner)
