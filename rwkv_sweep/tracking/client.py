"""Runs in MLflow: made, filled, closed, found again."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.own_files import run_files
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.tracking.uris import absolute_uri, sqlite_path
from rwkv_sweep.utils.processes import is_dead, this_process
from rwkv_sweep.utils.redaction import redact

# Set before MLflow is imported: nothing here may call out, and a server that is down must not hold up a sweep for long.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.entities import LoggedModelInput, Metric, Param, RunTag
    from mlflow.entities import Run as Run
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient as MlflowClient

    from rwkv_sweep.tracking import database, entities
    from rwkv_sweep.tracking.entities import mlflow_status as mlflow_status
    from rwkv_sweep.tracking.experiments import experiment_id, model_id
    from rwkv_sweep.tracking.saved_models import artifact_folder, fetch_files, log_model

# After the import, which sets levels of its own: that a database is being created is no news to the user, and what goes
# wrong in one is reported by this program, once, without its traceback.
for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

MAX_PARAM = 6000
"""MLflow's limit on the length of a parameter's value."""
PARAMS_PER_CALL = 100
"""MLflow's limit on the parameters of one call."""
RUNS_PER_PAGE = 1000

KIND, STATUS, RECORD, KEY = "rwkv_sweep.kind", "rwkv_sweep.status", "rwkv_sweep.record", "rwkv_sweep.key"
PROCESS, FOLDER, PARENT = "rwkv_sweep.process", "rwkv_sweep.folder", "mlflow.parentRunId"


class Tracker:
    """One experiment of one tracking server.

    Runs are made through the client, not the fluent API: that one keeps global state and lets MLFLOW_RUN_ID in the
    environment override the parent run. SQLite refuses a second writer at once where two readers both want to write, so
    the processes of one machine write one after another, by a lock beside the file.
    """

    def __init__(self, config: TrackingConfig) -> None:
        """Open the server, creating the database and the experiment if need be."""
        uri = absolute_uri(config.uri)
        self._uri, self._database = uri, sqlite_path(uri)
        database.limit_database_tries()
        # Two processes that create one database both fail, so even its first opening needs the lock.
        self._models: dict[str, str] = {}
        opening = self._writing() if self._database else database.exclusive_access(database.lock_of(uri))
        with opening, database.schema_explained():
            if self._database is not None and not self._database.exists():
                database.create(self._database)
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = experiment_id(self._client, config, uri, self._database)

    def start_run(
        self,
        name: str,
        tags: dict[str, str],
        parent: str | None = None,
        started: float = 0.0,
        record: str = "",
        folder: Path | None = None,
    ) -> str:
        """Create a run in state RUNNING and return its id.

        Args:
            started: seconds since the epoch; 0 for now.
            record: what stands for it wherever it is imported. folder: where its record is.
        """
        tags = {**tags, "mlflow.source.name": "rwkv_sweep", PROCESS: this_process(), RECORD: record}
        if parent is not None:
            tags[PARENT] = parent
        if folder is not None:
            tags[FOLDER] = str(folder.absolute())
        tags = {key: redact(value) for key, value in tags.items()}
        with self._writing():
            start_ms = int(started * 1000) or None
            run = self._client.create_run(self._experiment, start_time=start_ms, tags=tags, run_name=redact(name))
        return str(run.info.run_id)

    def log_result(self, result: Result, folder: Path, parent: str | None) -> str:
        """Log a finished or failed run with its files, and return its run id."""
        tags = {**result.tags, KIND: result.kind, STATUS: result.status, KEY: result.key}
        run_id = self.start_run(result.name, tags, parent, result.started, result.id, folder)
        try:
            self.fill_run(run_id, result, folder)
        except BaseException as error:
            # Interrupted or refused half-way: no run stays RUNNING. The whole record is in the run's folder.
            if not isinstance(error, Exception):
                hurry()
            with contextlib.suppress(Exception):
                self.close_run(run_id, "KILLED")
            raise
        return run_id

    def fill_run(self, run_id: str, result: Result, folder: Path) -> None:
        """Log all of a record into a run and close it; what is there already is written again, to the same effect."""
        params = [Param(key, redact(str(value))[:MAX_PARAM]) for key, value in result.params.items()]
        stamp = int(result.ended * 1000)
        metrics = [Metric(key, value, stamp, 0) for key, value in result.metrics.items()]
        # The end of a traceback is of more use than its beginning.
        logged_error = {key: value[:MAX_PARAM] for key, value in (result.error or {}).items() if key != "traceback"}
        if result.error is not None and "traceback" in result.error:
            logged_error["traceback"] = result.error["traceback"][-MAX_PARAM:]
        tags = {f"rwkv_sweep.error_{key}": value for key, value in logged_error.items()} | entities.run_tags(result)
        written = [RunTag(key, redact(value)) for key, value in tags.items()]
        data, model = entities.dataset_input(result), self._model(result)
        with self._writing():
            for start in range(0, len(params), PARAMS_PER_CALL):
                self._client.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL])
            self._client.log_batch(run_id, metrics=metrics, tags=written)
            if data is not None or model is not None:
                self._client.log_inputs(run_id, [data] if data else None, [LoggedModelInput(model)] if model else None)
        with self._writing():
            for path in run_files(folder):  # by name: the folder may hold anything, this very database too
                self._client.log_artifact(run_id, str(path), artifact_folder(path.relative_to(folder)))
            log_model(self._client, run_id, folder)
        self.close_run(run_id, mlflow_status(result.status), result.ended)

    def end_run(self, run_id: str, status: str, artifacts: Iterable[Path] = (), description: str = "") -> None:
        """Close a run made by `start_run`. description: Markdown, shown at the top of its page."""
        with self._writing():
            for path in artifacts:
                self._client.log_artifact(run_id, str(path))
        if description:
            self.tag_run(run_id, {entities.DESCRIPTION: entities.shortened(description)})
        self.close_run(run_id, status)

    def log_metrics(self, run_id: str, metrics: dict[str, float]) -> None:
        """Add metrics to a run."""
        stamp = int(time.time() * 1000)
        with self._writing():
            self._client.log_batch(run_id, metrics=[Metric(key, value, stamp, 0) for key, value in metrics.items()])

    def close_run(self, run_id: str, status: str, ended: float = 0.0) -> None:
        """Set a run's last state. ended: seconds since the epoch; 0 for now."""
        with self._writing():
            self._client.set_terminated(run_id, status, int(ended * 1000) or None)

    def reopen_run(self, run_id: str) -> bool:
        """Take a parent run up again, as one of this process; False where the server has it no more."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException:
            return False
        if run.info.experiment_id != self._experiment or run.info.lifecycle_stage != "active":
            return False
        self.tag_run(run_id, {PROCESS: this_process()})
        with self._writing():
            self._client.update_run(run_id, status="RUNNING")
        return True

    def status(self, run_id: str) -> str:
        """A run's state, in MLflow's words."""
        return str(self._client.get_run(run_id).info.status)

    def tag_run(self, run_id: str, tags: dict[str, str]) -> None:
        """Add tags to a run."""
        if tags:
            with self._writing():
                self._client.log_batch(run_id, tags=[RunTag(key, redact(value)) for key, value in tags.items()])

    def find(self, **tags: str) -> list[Run]:
        """Runs with these tags (`record`, `key`, `parent`), the latest first."""
        names = {"record": RECORD, "key": KEY, "parent": PARENT}
        return self._search(" and ".join(f"tags.`{names[key]}` = '{value}'" for key, value in tags.items()))

    def finished(self, key: str) -> list[Run]:
        """Finished runs with this key, the latest first."""
        return self._search(f"tags.`{KEY}` = '{key}' and attributes.status = '{FINISHED}'")

    def left_over(self) -> list[Run]:
        """Runs that are RUNNING by their state, of processes that are dead."""
        running = self._search("attributes.status = 'RUNNING'")
        return [run for run in running if PROCESS in run.data.tags and is_dead(run.data.tags[PROCESS])]

    def fetch(self, run_id: str, folder: Path) -> None:
        """Copy a run's files into `folder`; other artifacts, which somebody may have added, are left."""
        fetch_files(self._client, run_id, folder)

    def _search(self, condition: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=RUNS_PER_PAGE, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _model(self, result: Result) -> str | None:
        """MLflow's id of the model a run used, made where the experiment has none; None for a run without one."""
        name = entities.model_name(result)
        if name is None:
            return None
        key = name + result.tags["model_fingerprint"]
        if key not in self._models:
            with self._writing():
                self._models[key] = model_id(self._client, self._experiment, name, result)
        return self._models[key]

    def _writing(self) -> contextlib.AbstractContextManager[Any]:
        return database.uninterrupted_access(self._database) if self._database is not None else contextlib.nullcontext()


def is_refusal(error: Exception) -> bool:
    """Whether an error is about what was to be logged (such as a name that MLflow does not take), not about the
    server."""
    if isinstance(error, MlflowException):
        return error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST")
    return isinstance(error, (UserError, TypeError, KeyError, OverflowError, UnicodeError))


def error_line(error: Exception) -> str:
    """An error in one line: a UserError's text, else the class and the first line."""
    if isinstance(error, UserError):
        return redact(str(error))
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]:.200}" if lines else type(error).__name__


def hurry() -> None:
    """From now on wait 5 s for a server, once: this process was asked to end."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
