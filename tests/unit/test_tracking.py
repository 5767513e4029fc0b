"""What MLflow keeps of a run, in a database of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_sweep.config import TrackingConfig
from rwkv_sweep.results import FAILED, FINISHED, Result
from rwkv_sweep.tracking import MlflowClient, Tracker, absolute_uri, ui_command

METRICS = {"quality/spearman": 0.125, "quality/train_first_1000/spearman": -0.5, "latency/p99_ms": 3e-7}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """One database for all tests here: making it takes seconds."""
    root = tmp_path_factory.mktemp("tracking")
    return TrackingConfig(True, f"sqlite:///{root}/new/mlflow.db", f"{root}/artifacts", "sentences")


@pytest.fixture(scope="module")
def tracker(config: TrackingConfig) -> Tracker:
    return Tracker(config)


@pytest.fixture(scope="module")
def client(tracker: Tracker, config: TrackingConfig) -> MlflowClient:
    return MlflowClient(tracking_uri=config.uri)


def result(name: str = "layer=1", status: str = FINISHED, error: dict[str, str] | None = None) -> Result:
    params = {"layer": "1", "model.path": None, "long": "x" * 7000, **{f"p{index}": index for index in range(150)}}
    return Result(name, "model", status, params, METRICS, {"device_name": "a CPU"}, error, 1000.25, 1002.5)


def test_parent_and_child(
    tracker: Tracker, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)  # must not override the parent
    (tmp_path / "pairs.csv").write_text("split,row\n")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("layer: 1\n")
    parent = tracker.start_run("a sweep", {"rwkv_sweep.kind": "sweep"})
    assert client.get_run(parent).info.status == "RUNNING"
    child = client.get_run(tracker.log_result(result(), tmp_path, parent))

    assert child.info.run_name == "layer=1" and child.info.status == "FINISHED"
    assert (child.info.start_time, child.info.end_time) == (1_000_250, 1_002_500)
    assert child.data.metrics == METRICS
    assert child.data.params["layer"] == "1" and child.data.params["model.path"] == "None"
    assert child.data.params["p149"] == "149" and len(child.data.params) == 153
    assert child.data.params["long"] == "x" * 6000
    tags = child.data.tags
    assert tags["mlflow.parentRunId"] == parent and tags["rwkv_sweep.kind"] == "model"
    assert tags["device_name"] == "a CPU" and tags["mlflow.source.name"] == "rwkv_sweep"
    assert not [key for key in tags if "error" in key]
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"pairs.csv", ".hydra"}
    assert [file.path for file in client.list_artifacts(child.info.run_id, ".hydra")] == [".hydra/config.yaml"]

    summary = tmp_path / "summary.csv"
    summary.write_text("name\n")
    tracker.end_run(parent, "KILLED", [summary])
    ended = client.get_run(parent)
    assert ended.info.status == "KILLED" and ended.info.end_time >= ended.info.start_time > 1_600_000_000_000
    assert "mlflow.parentRunId" not in ended.data.tags
    assert [file.path for file in client.list_artifacts(parent)] == ["summary.csv"]


def test_failure_is_kept_with_its_reason(tracker: Tracker, client: MlflowClient, tmp_path: Path) -> None:
    error = {"kind": "NonFiniteError", "message": "layer 3 gives NaN" + "!" * 7000}
    run = client.get_run(tracker.log_result(result(status=FAILED, error=error), tmp_path, None))
    assert run.info.status == "FAILED"
    assert run.data.tags["rwkv_sweep.error_kind"] == "NonFiniteError"
    assert run.data.tags["rwkv_sweep.error_message"] == error["message"][:6000]
    assert "mlflow.parentRunId" not in run.data.tags


def test_one_experiment_with_artifacts_where_the_config_says(
    tracker: Tracker, client: MlflowClient, config: TrackingConfig
) -> None:
    Tracker(config)
    found = [each for each in client.search_experiments() if each.name == "sentences"]
    assert len(found) == 1
    assert found[0].artifact_location == Path(config.artifacts).as_uri()


def test_absolute_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/b/mlflow.db") == f"sqlite:///{tmp_path}/a/b/mlflow.db"
    assert (tmp_path / "a" / "b").is_dir()
    assert absolute_uri(f"sqlite:///{tmp_path}/c.db") == f"sqlite:///{tmp_path}/c.db"
    assert absolute_uri("http://tracking:5000") == "http://tracking:5000"


def test_ui_command(config: TrackingConfig) -> None:
    assert ui_command(config) == f"mlflow ui --backend-store-uri {config.uri}"
