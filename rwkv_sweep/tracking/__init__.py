"""MLflow: the only package that knows it. What loads it is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rwkv_sweep.tracking.checks import check_tracking as check_tracking
from rwkv_sweep.tracking.checks import unused_variable as unused_variable
from rwkv_sweep.tracking.guarded import Servers as Servers
from rwkv_sweep.tracking.uris import absolute_uri, lasting, ui_command

if TYPE_CHECKING:
    from rwkv_sweep.tracking.client import MlflowClient as MlflowClient
    from rwkv_sweep.tracking.client import Tracker, hurry
    from rwkv_sweep.tracking.importing import (
        close_abandoned_runs,
        close_imported,
        end_parent,
        import_folder,
        import_record,
        open_parent,
        parent_run,
    )

__all__ = [
    "MlflowClient",
    "Servers",
    "Tracker",
    "absolute_uri",
    "check_tracking",
    "close_abandoned_runs",
    "close_imported",
    "end_parent",
    "hurry",
    "import_folder",
    "import_record",
    "lasting",
    "open_parent",
    "parent_run",
    "ui_command",
    "unused_variable",
]

_LOADS_MLFLOW = {
    "client": ("MlflowClient", "Tracker", "hurry"),
    "importing": (
        "close_abandoned_runs",
        "close_imported",
        "end_parent",
        "import_folder",
        "import_record",
        "open_parent",
        "parent_run",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _LOADS_MLFLOW.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
