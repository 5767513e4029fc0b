"""Where runs are tracked, as a URI; nothing here loads MLflow."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.utils.redaction import redact

_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<path>[^?]*)(?P<query>\?.*)?", re.S)


def absolute_uri(uri: str) -> str:
    """As MLflow takes it: a relative SQLite path absolute (from the folder the command was started in) and escaped, its
    folder created; PostgreSQL with the driver that is installed."""
    path = sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        return sqlite_uri(path)
    if uri.startswith("postgresql://") and find_spec("psycopg") is None and find_spec("psycopg2") is not None:
        return uri.replace("postgresql://", "postgresql+psycopg2://", 1)
    return uri


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite database. SQLAlchemy decodes its path, and ends it at a question mark."""
    text = str(path)
    if not set("%?#") & set(text):
        return f"sqlite:///{text}"
    # By the longer name, as MLflow creates the folder of a path behind the shorter one, escapes and all.
    return f"sqlite+pysqlite:///{quote(text)}"


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite database, absolute; None for everything else.

    A path may be escaped, as in any URI; where the folder exists by the name as it is written, that one is meant.
    """
    match = _SQLITE.fullmatch(uri)
    if match is None:
        return None
    written, decoded = (Path(text).absolute() for text in (match["path"], unquote(match["path"])))
    return written if written != decoded and written.parent.is_dir() and not decoded.parent.is_dir() else decoded


def lasting(config: TrackingConfig) -> dict[str, Any]:
    """The config as it may be written to a file: paths absolute, secrets taken out."""
    path = sqlite_path(config.uri)
    uri = config.uri if path is None else sqlite_uri(path)
    return {**asdict(config), "uri": redact(uri), "artifacts": str(Path(config.artifacts).absolute())}


def ui_command(config: TrackingConfig) -> str:
    """How to look at these runs: the command that opens the UI, or the server's own address."""
    if config.uri.startswith(("http://", "https://")):
        return redact(config.uri)
    path = sqlite_path(config.uri)
    uri = config.uri if path is None or "%" not in config.uri else sqlite_uri(path)
    return f"mlflow ui --backend-store-uri {shlex.quote(redact(uri))}"
