"""What MLflow's own pages are given beside numbers: descriptions, data sets, models, a view of the experiment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.tracking import MlflowClient, Tracker
from rwkv_sweep.tracking.entities import (
    MAX_DESCRIPTION,
    dataset_input,
    dataset_name,
    description,
    model_name,
    shortened,
)
from rwkv_sweep.tracking.views import experiment_tags

PARAMS = {
    **{"model": "tiny", "precision": "fp16", "layer": "5", "pooling": "mean", "aggregation": "none"},
    **{"dataset": "mrpc", "dataset.splits": "[train,validation]", "dataset.source": "hub", "dataset.id": "glue"},
}
TAGS = {"model_fingerprint": "f" * 16, "data_fingerprint": "d" * 64, "commit": "abc"}
METRICS = {
    **{"quality/spearman": 0.25, "quality/spearman_lo": 0.2, "quality/spearman_hi": 0.3},
    **{"quality/train/pairs": 1000.0, "quality/validation/pairs": 408.0, "quality/pairs": 1000.0},
    **{"baseline/word_overlap/delta": -0.05, "latency/mean_ms": 3.14159, "memory/weights_mib": 22.8},
}


def result(status: str = FINISHED, **changed: Any) -> Result:
    params = {**PARAMS, **changed.pop("params", {})}
    return Result("r", "model", status, params, METRICS, TAGS, started=1000.0, ended=1001.0, **changed)


def test_description_says_what_it_was_and_what_came_out() -> None:
    assert description(result()) == (
        "tiny, fp16, layer 5, pooling mean, on mrpc[train,validation].\n\n"
        "Spearman **0.250** [0.200, 0.300], -0.050 against word overlap, 3.14 ms a pair, weights 22.8 MiB."
    )
    failed = Result("r", "model", FAILED, PARAMS, error={"kind": "OutOfMemory", "message": "too large"})
    assert description(failed).endswith("\n\n**FAILED** (OutOfMemory): too large")
    baseline = Result("word_overlap", "baseline", FINISHED, {"model": "word_overlap", "dataset": "pairs"}, {})
    assert description(baseline) == "word_overlap, on pairs[all]."


@pytest.mark.parametrize("splits", ["[all[:60],test]", "all[:60],test"])
def test_data_sets_of_runs_and_baselines_have_one_name(splits: str) -> None:
    assert dataset_name(result(params={"dataset.splits": splits})) == "mrpc[all[:60],test]"


def test_long_descriptions_keep_whole_lines() -> None:
    text = "\n".join(f"| row {number} |" for number in range(1000))
    cut = shortened(text)
    assert len(cut) <= MAX_DESCRIPTION
    kept = cut.split("\n\n")[0].split("\n")
    assert len(kept) > 500 and set(kept) <= set(text.split("\n"))
    assert shortened("x" * 9000).startswith("x" * 7000)
    assert shortened(text[:100]) == text[:100]


@pytest.mark.parametrize(
    ("params", "kind", "source"),
    [
        ({}, "hugging_face", {"path": "glue", "config_name": None, "revision": None}),
        ({"dataset.source": "file", "dataset.path": "mine.csv"}, "local", {"uri": "mine.csv"}),
        ({"dataset.source": "assets", "dataset.id": None}, "code", None),
    ],
)
def test_data_set_with_its_source(params: dict[str, Any], kind: str, source: dict[str, Any] | None) -> None:
    given = dataset_input(result(params=params))
    assert given is not None
    data = given.dataset
    assert (data.name, data.digest, data.source_type) == ("mrpc[train,validation]", "d" * 16, kind)
    assert source is None or json.loads(data.source) == source
    assert json.loads(data.profile) == {"num_rows": 1408}
    assert [column["name"] for column in json.loads(data.schema)["mlflow_colspec"]] == [
        "sentence1",
        "sentence2",
        "label",
    ]
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "evaluation")]


def test_a_run_that_read_nothing_has_no_data_and_no_model() -> None:
    failed = Result("r", "model", FAILED, PARAMS)
    assert dataset_input(failed) is None and model_name(failed) is None


def test_model_names_are_what_mlflow_takes() -> None:
    assert model_name(result()) == "tiny-fp16"
    assert model_name(result(params={"model": "org/name:1.6B"})) == "org_name_1_6B-fp16"


def test_runs_share_models_and_data_in_mlflow(tmp_path: Path) -> None:
    config = TrackingConfig(True, f"sqlite:///{tmp_path}/mlflow.db", f"{tmp_path}/artifacts", "sentences")
    folder = tmp_path / "run"
    folder.mkdir()
    tracker = Tracker(config)
    first = tracker.log_result(result(params={"layer": "1"}), folder, None)
    # Another process, which knows nothing of the first.
    tracker = Tracker(config)
    second = tracker.log_result(result(), folder, None)
    tracker.fill_run(second, result(), folder)
    client = MlflowClient(config.uri)
    runs = [client.get_run(run_id) for run_id in (first, second)]
    models = client.search_logged_models([runs[0].info.experiment_id])
    assert [(model.name, model.status.value) for model in models] == [("tiny-fp16", "READY")]
    assert models[0].params["precision"] == "fp16"
    for run in runs:
        assert [model.model_id for model in run.inputs.model_inputs] == [models[0].model_id]
        assert [dataset.dataset.digest for dataset in run.inputs.dataset_inputs] == ["d" * 16]
        assert run.data.tags["mlflow.note.content"].startswith("tiny, fp16, layer")
        assert run.data.tags["mlflow.source.git.commit"] == "abc"


def test_experiment_gets_a_view_and_keeps_what_its_users_wrote(tmp_path: Path) -> None:
    config = TrackingConfig(True, f"sqlite:///{tmp_path}/mlflow.db", f"{tmp_path}/artifacts", "sentences")
    Tracker(config)
    client = MlflowClient(config.uri)
    experiment = client.get_experiment_by_name("sentences")
    assert experiment is not None and experiment_tags().items() <= experiment.tags.items()
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "ours")
    Tracker(config)
    again = client.get_experiment_by_name("sentences")
    assert again is not None and again.tags["mlflow.note.content"] == "ours"
    view = json.loads(experiment.tags["mlflow.sharedViewState.results"])
    sections = {section["uuid"] for section in view["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == sections
    assert len({chart["uuid"] for chart in view["compareRunCharts"]}) == len(view["compareRunCharts"])
