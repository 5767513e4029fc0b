"""MLflow: the only package that knows it."""

from __future__ import annotations

from rwkv_sweep.tracking.client import MlflowClient as MlflowClient
from rwkv_sweep.tracking.client import Tracker
from rwkv_sweep.tracking.guarded import track_result, tracked
from rwkv_sweep.tracking.importing import bring_in, close_imported, end_parent, import_folder, mend, open_parent
from rwkv_sweep.tracking.uris import absolute_uri, lasting, ui_command

__all__ = [
    "MlflowClient",
    "Tracker",
    "absolute_uri",
    "bring_in",
    "close_imported",
    "end_parent",
    "import_folder",
    "lasting",
    "mend",
    "open_parent",
    "track_result",
    "tracked",
    "ui_command",
]
