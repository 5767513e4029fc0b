"""What MLflow keeps of a run, in a database of its own."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from rwkv_sweep import Encoder
from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.tracking import (
    MlflowClient,
    Servers,
    Tracker,
    absolute_uri,
    close_abandoned_runs,
    close_imported,
    import_folder,
    import_record,
    lasting,
    ui_command,
)
from rwkv_sweep.tracking.model_uris import register
from rwkv_sweep.utils.processes import this_process
from tests.small_runs import finish_run, small_checkpoint, small_config, small_pairs

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
    experiments = [experiment for experiment in client.search_experiments() if experiment.name == "sentences"]
    assert len(experiments) == 1
    assert experiments[0].artifact_location == Path(config.artifacts).as_uri()


def test_absolute_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/b/mlflow.db") == f"sqlite:///{tmp_path}/a/b/mlflow.db"
    assert (tmp_path / "a" / "b").is_dir()
    assert absolute_uri(f"sqlite:///{tmp_path}/c.db") == f"sqlite:///{tmp_path}/c.db"
    assert absolute_uri("http://tracking:5000") == "http://tracking:5000"


def test_ui_command(config: TrackingConfig) -> None:
    assert ui_command(config) == f"mlflow ui --backend-store-uri {config.uri}"


# --- records imported later ---------------------------------------------------------------------------------------


def record(name: str, status: str = FINISHED) -> Result:
    return replace(result(name, status), id=uuid.uuid4().hex, key=uuid.uuid4().hex)


def test_a_record_is_imported_once(tracker: Tracker, tmp_path: Path) -> None:
    result = record("layer=7")
    result.save(tmp_path)
    assert import_record(tracker, result, tmp_path, None) == "new"
    assert import_record(tracker, result, tmp_path, None) == "present"
    assert len(tracker.find(record=result.id)) == 1


def test_a_run_cut_off_while_it_was_logged_is_completed(tracker: Tracker, client: MlflowClient, tmp_path: Path) -> None:
    result = record("layer=8")
    result.save(tmp_path)
    run_id = tracker.start_run(result.name, {}, None, result.started, result.id, tmp_path)
    client.log_metric(run_id, "latency/p99_ms", 3e-7, int(result.ended * 1000), 0)
    assert import_record(tracker, result, tmp_path, "0" * 32) == "completed"
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.metrics == METRICS
    assert run.data.tags["mlflow.parentRunId"] == "0" * 32
    assert len(client.get_metric_history(run_id, "latency/p99_ms")) == 1
    assert import_record(tracker, result, tmp_path, None) == "present"


def left_by_the_dead(tracker: Tracker, client: MlflowClient, name: str, result: Result, folder: Path) -> str:
    run_id = tracker.start_run(name, {}, None, result.started, result.id, folder)
    host, pid, start = this_process().rsplit(":", 2)
    client.set_tag(run_id, "rwkv_sweep.process", f"{host}:{pid}:{float(start) - 1000}")
    return run_id


def test_what_the_dead_left_running_is_closed_by_what_their_folders_say(
    tracker: Tracker, client: MlflowClient, tmp_path: Path
) -> None:
    result, alive = record("layer=9"), tracker.start_run("alive", {})
    result.save(tmp_path / "whole")
    whole = left_by_the_dead(tracker, client, "whole", result, tmp_path / "whole")
    lost = left_by_the_dead(tracker, client, "lost", record("layer=10"), tmp_path / "gone")
    other = left_by_the_dead(tracker, client, "other", record("layer=11"), tmp_path / "whole")
    assert close_abandoned_runs(tracker) == 3
    states = {run_id: client.get_run(run_id).info.status for run_id in (whole, lost, other, alive)}
    assert states == {whole: "FINISHED", lost: "KILLED", other: "KILLED", alive: "RUNNING"}
    assert client.get_run(whole).data.metrics == METRICS
    assert close_abandoned_runs(tracker) == 0
    tracker.close_run(alive, "KILLED")


def test_a_sweep_whose_tracking_failed_is_imported_under_a_parent(
    tracker: Tracker, client: MlflowClient, config: TrackingConfig, tmp_path: Path
) -> None:
    sweep = SweepRecord("a sweep", None, [], ["mean"], None, lasting(config), multirun=True, jobs=2)
    replace(sweep, id=uuid.uuid4().hex).save(tmp_path)
    for number in range(2):
        record(f"job {number}").save(tmp_path / str(number))
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "result.json").write_text('{"name": "half')
    done = import_folder(tracker, tmp_path)
    assert (done.new, done.completed, done.present, done.damaged) == (2, 0, 0, 1)
    close_imported(tracker, tmp_path)
    again = import_folder(tracker, tmp_path)
    assert (again.new, again.completed, again.present, again.damaged) == (0, 0, 2, 1)
    (parent,) = tracker.find(record=SweepRecord.load(tmp_path).id)
    assert parent.info.run_name == "a sweep" and parent.info.status == "FAILED"  # one record is damaged
    assert {run.info.run_name for run in tracker.find(parent=parent.info.run_id)} == {"job 0", "job 1"}


def test_a_server_that_fails_is_reported_once_and_not_waited_for(
    config: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    tracked = Servers().tracked
    tried = []

    def fail(tracker: Tracker) -> None:
        tried.append(tracker)
        raise ConnectionError("postgresql://u:hunter2@h/d is away\nmore")

    assert tracked(config, fail) is None and tracked(config, fail) is None
    assert len(tried) == 1
    reason = "ConnectionError: postgresql://***@h/d is away"
    assert capsys.readouterr().err == f"tracking at {config.uri} failed ({reason}): runs are kept on disk\n"
    assert tracked(config, fail, retry=True) is None and len(tried) == 2
    assert capsys.readouterr().err == ""
    assert tracked(config, lambda tracker: 5, retry=True) == 5
    assert tracked(config, lambda tracker: 6) == 6


def test_a_database_half_made_is_made_anew(tmp_path: Path) -> None:
    """SQLite keeps the tables of a migration that was killed."""
    config = TrackingConfig(True, f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"), "e")
    with sqlite3.connect(tmp_path / "mlflow.db.unfinished") as half:
        half.execute("create table experiments (experiment_id integer)")
    Tracker(config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_a_run_leaves_a_model(tracker: Tracker, client: MlflowClient, config: TrackingConfig, tmp_path: Path) -> None:
    pairs, folder = small_pairs(tmp_path / "data"), tmp_path / "run"
    run = small_config(small_checkpoint(tmp_path / "weights"), pairs, "layer=1", "pooling=idf", "postprocess=whiten")
    run_id = tracker.log_result(finish_run(run, folder), folder, None)
    texts = ["A cat sleeps.", "Rain."]
    expected_SD = Encoder.from_run(folder).encode(texts)
    for place in (f"runs:/{run_id}", f"runs:/{run_id}/model"):
        actual_SD = Encoder.from_run(place, tracking_uri=config.uri).encode(texts)
        np.testing.assert_array_equal(actual_SD, expected_SD)
    mlflow.set_tracking_uri(config.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
        np.testing.assert_allclose(loaded.predict(texts), expected_SD, atol=1e-6)
    finally:
        mlflow.set_tracking_uri(None)
    logged = {file.path for file in client.list_artifacts(run_id, "model")}
    assert logged == {
        f"model/{name}" for name in ("MLmodel", "input_example.json", "encoder.json", "fitted.safetensors")
    }
    tracker.fetch(run_id, (fetched := tmp_path / "fetched"))
    assert {path.name for path in fetched.iterdir()} == {path.name for path in folder.iterdir()}
    place = register(client, run_id, "mine", "the best of them")
    assert place == "models:/mine/1" and register(client, run_id, "mine", "again") == "models:/mine/2"
    np.testing.assert_array_equal(Encoder.from_run(place, tracking_uri=config.uri).encode(texts), expected_SD)
    with pytest.raises(UserError, match=r"run=models:/mine/3 cannot be had from MLflow"):
        Encoder.from_run("models:/mine/3", tracking_uri=config.uri)


def test_a_run_without_an_encoder_has_no_model(tracker: Tracker, client: MlflowClient, tmp_path: Path) -> None:
    run_id = tracker.log_result(result("layer=9"), tmp_path, None)
    assert client.list_artifacts(run_id, "model") == []
    with pytest.raises(UserError, match=r"has no model in MLflow: valid is a run that finished"):
        register(client, run_id, "theirs", "")
