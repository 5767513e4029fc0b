"""Experiments and models of MLflow: found, or made where there are none."""

from __future__ import annotations

import shlex
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import Result
from rwkv_sweep.tracking import entities
from rwkv_sweep.tracking.views import experiment_tags
from rwkv_sweep.utils.redaction import redact

FINGERPRINT = "rwkv_sweep.model_fingerprint"


def experiment_id(client: MlflowClient, config: TrackingConfig, uri: str, database: Path | None) -> str:
    """MLflow's id of `tracking.experiment`.

    Args:
        uri: of the server.
        database: its file, where it is a local one; None for a server, which keeps its own artifacts.

    Raises:
        UserError: the experiment was deleted.
    """
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise UserError(
            f"the experiment {config.experiment} was deleted: MLFLOW_TRACKING_URI={shlex.quote(redact(uri))} "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id} brings it back; or take another "
            "tracking.experiment"
        )
    if experiment is not None:
        # Of an experiment that others made, or an older version; what its users wrote stays.
        for key, value in experiment_tags().items():
            if key not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, key, value)
        return str(experiment.experiment_id)
    location = Path(config.artifacts).absolute().as_uri() if database is not None else None
    try:
        tags = experiment_tags()
        return str(client.create_experiment(config.experiment, artifact_location=location, tags=tags))
    except MlflowException:
        # Another process made it between the two calls.
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def model_id(client: MlflowClient, experiment: str, name: str, result: Result) -> str:
    """MLflow's id of the model that a run used, made where the experiment has none. name: of the model.

    Raises:
        UserError: a name that MLflow cannot search for.
    """
    fingerprint = result.tags["model_fingerprint"]
    wanted = f"name = {_quoted(name)} and tags.`{FINGERPRINT}` = {_quoted(fingerprint)}"
    models = list(client.search_logged_models([experiment], wanted, max_results=1))
    if not models:
        # Its weights stay where they are: MLflow keeps what identifies them.
        tags = {FINGERPRINT: fingerprint, "mlflow.model.isExternal": "true"}
        params = {key: redact(value) for key, value in entities.model_params(result).items()}
        made = client.create_logged_model(experiment, name, None, tags, params, "sentence encoder")
        models = [client.finalize_logged_model(made.model_id, "READY")]
    return str(models[0].model_id)


def _quoted(value: str) -> str:
    """A text in MLflow's language of queries, which has no escapes."""
    if "'" in value and '"' in value:
        raise UserError(f"{value:.100} holds both kinds of quotes, which MLflow cannot search for")
    return f'"{value}"' if "'" in value else f"'{value}'"
