"""Parameters and names made from a run's configuration."""

from __future__ import annotations

from copy import deepcopy

import pytest

from rwkv_sweep.config.params import GROUPS, data_key, flat_params, run_name
from rwkv_sweep.config.schema import (
    AggregationConfig,
    DatasetConfig,
    DeviceConfig,
    ModelConfig,
    PoolingConfig,
    PostprocessConfig,
    PrecisionConfig,
    PromptConfig,
    RunConfig,
    TrackingConfig,
)


@pytest.fixture
def run() -> RunConfig:
    return RunConfig(
        model=ModelConfig("tiny", "assets"),
        pooling=PoolingConfig("mean"),
        precision=PrecisionConfig("int8", "float16", "int8"),
        aggregation=AggregationConfig("concat"),
        postprocess=PostprocessConfig("center"),
        prompt=PromptConfig("echo"),
        device=DeviceConfig("auto", "auto"),
        dataset=DatasetConfig("mrpc", "hub", splits=["validation", "train[:1000]"]),
        tracking=TrackingConfig(uri="sqlite:///a.db", artifacts="a", experiment="e"),
        layer=[1, "final"],
    )


def test_flat_params(run: RunConfig) -> None:
    flat = flat_params(run)
    groups = {key: flat[key] for key in GROUPS}
    assert groups == {
        "model": "tiny",
        "pooling": "mean",
        "precision": "int8",
        "aggregation": "concat",
        "postprocess": "center",
        "prompt": "echo",
        "device": "auto",
        "dataset": "mrpc",
    }
    assert flat["layer"] == "[1,final]"
    assert flat["dataset.splits"] == "[validation,train[:1000]]"
    assert flat["precision.quantization"] == "int8" and flat["measure.latency_pairs"] == 20
    assert flat["model.path"] is None and flat["seed"] == 0
    assert not [key for key in flat if key.endswith(".name")]
    assert not [value for value in flat.values() if isinstance(value, (dict, list))]


def test_run_name(run: RunConfig) -> None:
    overrides = ["layer=3", "+model.x=1", "precision=fp16", "bootstrap=50"]
    assert run_name(run, overrides, ["layer", "precision"]) == "layer=3,precision=fp16"
    assert run_name(run, overrides, ["model.x"]) == "+model.x=1"
    assert run_name(run, overrides, []) == "model=tiny,layer=[1,final],precision=int8"


def test_data_key_is_of_what_a_baseline_reads(run: RunConfig) -> None:
    key = data_key(run)
    assert len(key) == 8
    same = deepcopy(run)
    same.layer, same.precision.name, same.measure.latency_pairs = 5, "fp32", 1
    assert data_key(same) == key
    changes: list[RunConfig] = [deepcopy(run) for _ in range(4)]
    changes[0].dataset.splits = ["validation"]
    changes[1].word_vectors.path = "vectors.txt"
    changes[2].bootstrap = 3
    changes[3].seed = 1
    assert len({key, *(data_key(changed) for changed in changes)}) == 5
