"""What can be found wrong with where runs are to be tracked before any is; nothing here loads MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rwkv_sweep.config.path_values import require_folder_to_be, require_path, shown_path, why_no_folder
from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.tracking.uris import absolute_uri, sqlite_path
from rwkv_sweep.utils.redaction import redact

DATABASES = ("postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
DATABRICKS = ("databricks", "databricks-uc", "uc")
VALID = (
    "sqlite:///FILE, http://HOST:PORT, https://HOST, postgresql://USER:PASSWORD@HOST/NAME (mysql and mssql likewise), "
    "databricks"
)
MAX_EXPERIMENT = 500
"""MLflow's limit on the length of an experiment's name."""
_SQLITE_HEADER = b"SQLite format 3\0"


def check_tracking(config: TrackingConfig) -> None:
    """Check the URI, its database file or driver, the folder of artifacts and the experiment's name.

    Raises:
        UserError: what can not be, with the key.
    """
    if not config.enabled:
        return
    if not config.experiment.strip() or len(config.experiment) > MAX_EXPERIMENT:
        valid = f"a name of 1 to {MAX_EXPERIMENT} characters"
        raise UserError(f"tracking.experiment={config.experiment!r} is not valid: valid is {valid}")
    scheme = config.uri.partition(":")[0].lower()
    dialect = scheme.partition("+")[0]
    require_path("tracking.artifacts", config.artifacts, "a folder")
    if dialect == "sqlite":
        require_folder_to_be("tracking.artifacts", config.artifacts, "a folder that can be written")
        _check_sqlite(config.uri)
    elif scheme in SERVERS:
        _check_server(config.uri)
    elif dialect in DATABASES and "://" in config.uri:
        _check_database(config.uri)
    elif config.uri not in DATABRICKS and not (":" in config.uri and scheme in (*DATABRICKS, *_plugins())):
        raise UserError(f"tracking.uri={redact(config.uri)} is not valid: valid are {VALID}")


def unused_variable(config: TrackingConfig, overrides: Iterable[str], environment: Mapping[str, str]) -> str:
    """One line where MLFLOW_TRACKING_URI names another place than the one that runs go to, which nobody typed; empty
    where it does not."""
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    typed = any(override.lstrip("+").startswith("tracking") for override in overrides)
    if not config.enabled or not uri or typed or _same_place(uri, config.uri):
        return ""
    return (
        f"MLFLOW_TRACKING_URI={redact(uri)} is not used, runs are tracked at {redact(config.uri)}; to use it: "
        "tracking.uri='${oc.env:MLFLOW_TRACKING_URI}'"
    )


def _same_place(uri: str, other: str) -> bool:
    paths = sqlite_path(uri), sqlite_path(other)
    return uri == other or (paths[0] is not None and paths[0] == paths[1])


def _plugins() -> list[str]:
    return [point.name for point in entry_points(group="mlflow.tracking_store")]


def _check_server(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        known = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise UserError(f"tracking.uri={redact(uri)} is not valid: valid is http://HOST:PORT or https://HOST")


def _check_database(uri: str) -> None:
    """The driver is a package of its own."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(absolute_uri(uri)).get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UserError(
            f"tracking.uri={redact(uri)} cannot be read ({redact(str(error))}): valid are {VALID}"
        ) from error
    except ImportError as error:
        hint = " (pip install 'rwkv-sweep[postgres]')" if uri.startswith("postgresql") else ""
        raise UserError(
            f"tracking.uri={redact(uri)} needs the package {error.name}, which is not installed{hint}; a URI such as "
            "mysql+pymysql://... names another driver"
        ) from error


def _check_sqlite(uri: str) -> None:
    given = f"tracking.uri={shown_path(redact(uri))}"
    if "\0" in unquote(uri):
        raise UserError(f"{given} holds a NUL: valid is sqlite:///FILE")
    path = sqlite_path(uri)
    if path is None or uri.partition("///")[2].partition("?")[0] in ("", ":memory:"):
        raise UserError(
            f"{given} is not valid: valid is sqlite:///FILE; a database in memory would be gone with the run"
        )
    if "?" in uri:
        raise UserError(f"{given} has parameters, which are not valid; a ? in the file's name is written %3F")
    try:
        str(path).encode("utf-8")
        reason = _unusable(path)
    except UnicodeEncodeError:
        reason = "a path that is not UTF-8"
    except (OSError, ValueError) as error:  # too long, a loop of links, no permission, a NUL
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise UserError(
            f"{given} cannot be used ({reason}: {shown_path(path)}): valid is a file in a folder that can be written"
        )


def _unusable(path: Path) -> str:
    """Why a database cannot be at this path; empty where it can."""
    if path.is_dir():
        return "it is a folder"
    if path.exists():
        if not path.is_file():
            return "it is not a file"
        if not os.access(path, os.R_OK | os.W_OK):
            return "it cannot be read and written"
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_HEADER))
        return "" if start in (b"", _SQLITE_HEADER) else "it is not an SQLite database"
    if path.is_symlink():
        return "a link to nothing"
    path.with_name(f"{path.name}.lock").exists()  # a name too long is an OSError
    reason = why_no_folder(path.parent)
    return f"its folder {reason}" if reason else ""
