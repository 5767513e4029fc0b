"""Models that runs have left in MLflow: found by their URIs, fetched, registered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.own_files import ENCODER_FILE, RESULT_FILE
from rwkv_sweep.tracking.client import MlflowClient
from rwkv_sweep.tracking.saved_models import MODEL_FOLDER
from rwkv_sweep.tracking.uris import absolute_uri, sqlite_path

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
_RUN = re.compile(r"runs:/(?P<id>[0-9a-f]{32})(?:/model)?/?")
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+))")


def download_model(place: str, tracking_uri: str | None, target: Path) -> Path:
    """Copy the files of a model in MLflow into the folder `target` and return the folder that holds them.

    Args:
        place: `runs:/ID`, `runs:/ID/model`, `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        tracking_uri: as of `client_of`.

    Raises:
        UserError: it is none of these, or MLflow does not have it.
    """
    client, uri = client_of(tracking_uri)
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        source = _artifact_uri(client, place)
        folder = Path(download_artifacts(artifact_uri=source, dst_path=str(target), tracking_uri=uri))
        if run := _RUN.fullmatch(place):  # the figures, for who wants them
            client.download_artifacts(run["id"], RESULT_FILE, str(folder))
    except (MlflowException, OSError) as error:
        raise UserError(f"run={place} cannot be had from MLflow ({_reason(error)})") from error
    if not (folder / ENCODER_FILE).is_file():
        raise UserError(f"run={place} holds no {ENCODER_FILE}: valid is a finished run of this program")
    return folder


def client_of(tracking_uri: str | None) -> tuple[Any, str]:
    """A client and its URI.

    Args:
        tracking_uri: None takes the one that the environment or the program has set, then that of a sweep's default.

    Raises:
        UserError: there is no such database.
    """
    import mlflow

    if tracking_uri is None:
        tracking_uri = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else DEFAULT_URI
    database = sqlite_path(tracking_uri)
    if database is not None and not database.is_file():  # MLflow would make an empty one
        raise UserError(f"tracking_uri={tracking_uri}: there is no {database}: valid is where the run was tracked")
    uri = absolute_uri(tracking_uri)
    return MlflowClient(tracking_uri=uri), uri


def register(client: Any, run_id: str, name: str, description: str) -> str:
    """Make the model of a run the next version of the registered model `name`; returns its URI.

    Raises:
        UserError: MLflow refuses the name, or the run has no model.
    """
    from mlflow.exceptions import MlflowException

    try:
        if not client.list_artifacts(run_id, MODEL_FOLDER):
            raise UserError(f"run {run_id} has no model in MLflow: valid is a run that finished")
        if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
            client.create_registered_model(name)
        source = f"runs:/{run_id}/{MODEL_FOLDER}"
        version = client.create_model_version(name, source, run_id, description=description)
    except MlflowException as error:
        raise UserError(f"NAME={name} cannot be registered ({_reason(error)})") from error
    return f"models:/{name}/{version.version}"


def _artifact_uri(client: Any, place: str) -> str:
    if run := _RUN.fullmatch(place):
        return f"runs:/{run['id']}/{MODEL_FOLDER}"
    if model := _REGISTERED.fullmatch(place):
        name, version = model["name"], model["version"]
        if version is None:
            version = client.get_model_version_by_alias(name, model["alias"]).version
        return str(client.get_model_version_download_uri(name, version))
    raise UserError(
        f"run={place} is not known: valid are runs:/ID, runs:/ID/model, models:/NAME/VERSION and models:/NAME@ALIAS"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
