"""A run's encoder as a model of MLflow, among the artifacts of its run.

The artifacts are `encoder.json`, what was fitted, and what MLflow needs to know; weights stay where they are.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from rwkv_sweep.records.encoder_record import ENCODER_FILE, EncoderRecord
from rwkv_sweep.records.own_files import ENCODER_FILES, RUN_FILES, present

MODEL_FOLDER = "model"
"""Among a run's artifacts: `runs:/ID/model` is the model."""
MODEL_FILE = "MLmodel"
EXAMPLE_FILE = "input_example.json"
EXAMPLE = ["A cat sleeps on the mat.", "In May prices went up."]
LOADER = "rwkv_sweep.export.mlflow_model"


def mlmodel(dimension: int, run_id: str | None = None) -> str:
    """The text of MLflow's file `MLmodel`: which module loads the model, what it takes and what it gives.

    Args:
        dimension: of the vectors.
        run_id: of the run in MLflow, where there is one.
    """
    vectors = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, dimension]}}
    content: dict[str, Any] = {
        "flavors": {"python_function": {"loader_module": LOADER, "python_version": platform.python_version()}},
        "signature": {
            "inputs": json.dumps([{"type": "string", "required": True}]),
            "outputs": json.dumps([vectors]),
            "params": None,
        },
        "saved_input_example_info": {
            "artifact_path": EXAMPLE_FILE,
            "type": "json_object",
        },
    }
    if run_id is not None:
        content |= {"run_id": run_id, "artifact_path": MODEL_FOLDER}
    return json.dumps(content, indent=1) + "\n"  # JSON is YAML


def input_example() -> str:
    """The text of MLflow's file with an example of what the model takes."""
    return json.dumps(EXAMPLE) + "\n"


def artifact_folder(path: Path) -> str | None:
    """Where among a run's artifacts a file of its folder is, None for the top. path: relative to the folder."""
    within = MODEL_FOLDER if path.name in ENCODER_FILES else path.parent.as_posix()
    return None if within == "." else within


def log_model(client: Any, run_id: str, folder: Path) -> None:
    """Log what makes the encoder's files a model that MLflow loads; nothing where the run in `folder` left none."""
    if present(folder, [ENCODER_FILE]):
        dimension = EncoderRecord.load(folder).dimension
        for name, text in ((MODEL_FILE, mlmodel(dimension, run_id)), (EXAMPLE_FILE, input_example())):
            client.log_text(run_id, text, f"{MODEL_FOLDER}/{name}")


def fetch_files(client: Any, run_id: str, folder: Path) -> None:
    """Copy a run's files from MLflow into `folder`; other artifacts, which somebody may have added, are left."""
    logged = {file.path for within in (None, MODEL_FOLDER) for file in client.list_artifacts(run_id, within)}
    for name in RUN_FILES:
        within = artifact_folder(Path(name))
        artifact = name if within is None else f"{within}/{name}"
        if artifact in logged:
            fetched = Path(client.download_artifacts(run_id, artifact, str(folder)))
            if fetched != folder / name:
                fetched.replace(folder / name)
