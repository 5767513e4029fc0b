"""Where runs are tracked, as a URI; nothing here loads MLflow."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rwkv_sweep.config import TrackingConfig
from rwkv_sweep.redaction import redact

_SQLITE = "sqlite:///"


def absolute_uri(uri: str) -> str:
    """A relative SQLite path made absolute (from the folder the command was started in), its folder created."""
    path = sqlite_path(uri)
    if path is None:
        return uri
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"{_SQLITE}{path}"


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite database, absolute; None for everything else."""
    return Path(uri[len(_SQLITE) :]).absolute() if uri.startswith(_SQLITE) else None


def lasting(config: TrackingConfig) -> dict[str, Any]:
    """The config as it may lie in a file: paths absolute, secrets taken out."""
    path = sqlite_path(config.uri)
    uri = config.uri if path is None else f"{_SQLITE}{path}"
    return {**asdict(config), "uri": redact(uri), "artifacts": str(Path(config.artifacts).absolute())}


def ui_command(config: TrackingConfig) -> str:
    """How to look at these runs: the command that opens the UI, or the server's own address."""
    if config.uri.startswith(("http://", "https://")):
        return redact(config.uri)
    return f"mlflow ui --backend-store-uri {redact(config.uri)}"
