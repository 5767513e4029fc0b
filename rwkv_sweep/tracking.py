"""MLflow: the only module that knows it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from rwkv_sweep.config import TrackingConfig
from rwkv_sweep.results import Result

# Set before MLflow is imported: nothing here may call out.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

# After the import, which sets levels of its own: that a database is being created is no news to the user.
for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)

MAX_PARAM = 6000
"""MLflow's limit on the length of a parameter's value."""
PARAMS_PER_CALL = 100
"""MLflow's limit on the parameters of one call."""


class Tracker:
    """One experiment of one tracking server.

    Runs are made through the client, not the fluent API: that one keeps global state and lets MLFLOW_RUN_ID in the
    environment override the parent run.
    """

    def __init__(self, config: TrackingConfig) -> None:
        """Open the server, creating the database and the experiment if need be. Do so once before parallel jobs."""
        uri = absolute_uri(config.uri)
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._experiment_id(config, uri)

    def start_run(self, name: str, tags: dict[str, str], parent: str | None = None, started: float = 0.0) -> str:
        """Create a run in state RUNNING and return its id. started: seconds since the epoch; 0 for now."""
        if parent is not None:
            tags = {**tags, "mlflow.parentRunId": parent}
        run = self._client.create_run(
            self._experiment,
            start_time=int(started * 1000) or None,
            tags={**tags, "mlflow.source.name": "rwkv_sweep"},
            run_name=name,
        )
        return str(run.info.run_id)

    def log_result(self, result: Result, folder: Path, parent: str | None) -> str:
        """Log a finished or failed run with everything in its folder, and return its run id."""
        run_id = self.start_run(result.name, {**result.tags, "rwkv_sweep.kind": result.kind}, parent, result.started)
        try:
            self._fill_run(run_id, result, folder)
        except BaseException:
            # Interrupted or refused half-way: no run stays RUNNING. The whole record lies in the run's folder.
            with contextlib.suppress(Exception):
                self._client.set_terminated(run_id, "KILLED")
            raise
        return run_id

    def _fill_run(self, run_id: str, result: Result, folder: Path) -> None:
        params = [Param(key, str(value)[:MAX_PARAM]) for key, value in result.params.items()]
        stamp = int(result.ended * 1000)
        metrics = [Metric(key, value, stamp, 0) for key, value in result.metrics.items()]
        error = [RunTag(f"rwkv_sweep.error_{key}", value[:MAX_PARAM]) for key, value in (result.error or {}).items()]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL])
        self._client.log_batch(run_id, metrics=metrics, tags=error)
        self._client.log_artifacts(run_id, str(folder))
        self._client.set_terminated(run_id, result.status, int(result.ended * 1000))

    def end_run(self, run_id: str, status: str, artifacts: Iterable[Path] = ()) -> None:
        """Close a run made by `start_run`."""
        for path in artifacts:
            self._client.log_artifact(run_id, str(path))
        self._client.set_terminated(run_id, status)

    def _experiment_id(self, config: TrackingConfig, uri: str) -> str:
        found = self._client.get_experiment_by_name(config.experiment)
        if found is not None:
            return str(found.experiment_id)
        # A server keeps its own artifacts; a local database needs to be told where.
        location = Path(config.artifacts).absolute().as_uri() if uri.startswith("sqlite:") else None
        try:
            return str(self._client.create_experiment(config.experiment, artifact_location=location))
        except MlflowException:
            # Another process made it between the two calls.
            found = self._client.get_experiment_by_name(config.experiment)
            if found is None:
                raise
            return str(found.experiment_id)


def absolute_uri(uri: str) -> str:
    """A relative SQLite path made absolute (from the folder the command was started in), its folder created."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return uri
    path = Path(uri[len(prefix) :]).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"{prefix}{path}"


def ui_command(config: TrackingConfig) -> str:
    """The command that opens the UI on these runs."""
    return f"mlflow ui --backend-store-uri {config.uri}"
