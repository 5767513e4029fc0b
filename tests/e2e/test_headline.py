"""The headline command from start to end: what it leaves in the folders, in MLflow and on the terminal."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from tests.e2e.finished import (
    BASELINE_METRICS,
    BASELINES,
    MODEL_METRICS,
    Command,
    Sweep,
    mlflow_client,
    rows_of,
    without_tracking_time,
)

LAYERS, PRECISIONS = ("1", "3", "5", "7", "9", "11"), ("fp16", "int8")


UNNEEDED = {
    *("datasets", "huggingface_hub", "IPython", "matplotlib", "sklearn.linear_model"),
    *("tensorflow", "torchvision", "transformers"),
}
"""What takes long to import, and this sweep has no need of."""
COMPILER = {"sympy", "torch._dynamo", "torch._inductor"}
"""PyTorch imports it with the first operator of bitsandbytes, which int8 needs on processors without AVX-512."""
IMPORT = re.compile(r"^import time: .*\| +(\S.*)\n", re.MULTILINE)
"""A line that Python writes of an import."""


@pytest.fixture(scope="module")
def traced(started: Command, job: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, set[str]]:
    """The sweep, and the modules that it imported."""
    cwd = tmp_path_factory.mktemp("headline")
    # The modes may stand anywhere; MLFLOW_RUN_ID must not redirect anything.
    arguments = ["-m", f"layer={','.join(LAYERS)}", f"precision={','.join(PRECISIONS)}", *job]
    done = started(arguments, cwd, MLFLOW_RUN_ID="0" * 32, PYTHONPROFILEIMPORTTIME="1")
    modules = set(IMPORT.findall(done.stderr))
    done.stderr = IMPORT.sub("", done.stderr)
    return Sweep(done, cwd), modules


@pytest.fixture(scope="module")
def headline(traced: tuple[Sweep, set[str]]) -> Sweep:
    return traced[0]


def test_headline_imports_nothing_that_it_does_not_need(traced: tuple[Sweep, set[str]]) -> None:
    assert {"torch", "mlflow", "rwkv_sweep.sweep.ending"} <= traced[1]
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    assert traced[1] & (UNNEEDED | COMPILER if has_avx512 else UNNEEDED) == set()


def test_headline_tracks_twelve_runs_and_two_baselines_under_one_parent(headline: Sweep) -> None:
    assert headline.done.returncode == 0, headline.done.stderr
    parent, children = headline.only("sweep"), headline.runs("model")
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name.startswith("layer=1,3,5,7,9,11 precision=fp16,int8 model=local")
    assert "layer=1,3,5,7,9,11" in parent.data.tags["rwkv_sweep.command"]
    names = {f"precision={precision},layer={layer}" for layer in LAYERS for precision in PRECISIONS}
    assert {run.info.run_name for run in children} == names and len(children) == 12
    assert [run.info.run_name for run in headline.runs("baseline")] == list(BASELINES)
    for run in [*children, *headline.runs("baseline")]:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.end_time >= run.info.start_time > 1_600_000_000_000


def test_headline_metrics_are_those_of_the_records(headline: Sweep) -> None:
    results = headline.results()
    assert len(results) == 14
    for kind, expected in (("model", MODEL_METRICS), ("baseline", BASELINE_METRICS)):
        for run in headline.runs(kind):
            metrics = run.data.metrics
            assert expected - metrics.keys() == set()
            assert metrics == without_tracking_time(results[run.info.run_name])
            assert all(math.isfinite(value) for value in metrics.values())
            assert {key: str(value) for key, value in results[run.info.run_name]["params"].items()} == run.data.params


def test_headline_numbers_fit_together(headline: Sweep) -> None:
    results = headline.results()
    for number, layer in enumerate(LAYERS):
        half, quantized = (results[f"precision={precision},layer={layer}"] for precision in PRECISIONS)
        for result in (half, quantized):
            assert result["params"]["layer"] == layer and result["params"]["depth"] == int(layer) + 1
            metrics = result["metrics"]
            assert metrics["quality/spearman_lo"] <= metrics["quality/spearman"] <= metrics["quality/spearman_hi"]
            assert metrics["quality/spearman"] == metrics["quality/all/spearman"]
            for name in BASELINES:
                difference = metrics["quality/spearman"] - results[name]["metrics"]["quality/spearman"]
                assert metrics[f"baseline/{name}/delta"] == pytest.approx(difference)
        assert quantized["metrics"]["memory/weights_mib"] < 0.8 * half["metrics"]["memory/weights_mib"]
        assert (half["tags"]["precision"], quantized["tags"]["precision"]) == PRECISIONS
        folder = headline.root / str(number)
        pairs = rows_of(folder / "pairs.csv")
        scores, labels = ([float(row[key]) for row in pairs] for key in ("score", "label"))
        assert len(pairs) == 24 and labels == [1.0, 0.0] * 12
        assert half["metrics"]["quality/spearman"] == pytest.approx(float(spearmanr(scores, labels).statistic))
        latency = [float(row["latency_ms"]) for row in rows_of(folder / "latency_ms.csv")]
        assert len(latency) == 3 and half["metrics"]["latency/mean_ms"] == pytest.approx(sum(latency) / 3)
    assert (
        len({tuple(row["score"] for row in rows_of(headline.root / str(job) / "pairs.csv")) for job in range(12)}) == 12
    )
    assert (
        len({result["tags"].get("model_fingerprint") for result in results.values() if result["kind"] == "model"}) == 1
    )


def test_headline_leaves_artifacts(headline: Sweep) -> None:
    client = mlflow_client(headline.cwd)
    for run in headline.runs("model"):
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"result.json", "pairs.csv", "latency_ms.csv", ".hydra", "rwkv_sweep.log"} <= names
        assert run.info.artifact_uri.startswith((headline.cwd / "mlruns" / "artifacts").as_uri())
    kept = client.list_artifacts(headline.only("sweep").info.run_id)
    assert {artifact.path for artifact in kept} == {"summary.csv", "summary.md", "report.html"}
    assert len(rows_of(headline.root / "summary.csv")) == 14
    assert {path.name for path in headline.cwd.iterdir()} == {"mlruns", "multirun"}


def test_headline_prints_a_table_and_how_to_go_on(headline: Sweep) -> None:
    lines = headline.done.stdout.splitlines()
    table = {tuple(line.split()[:2]): line for line in lines if line.strip()}
    for name, result in headline.results().items():
        params = result["params"]
        actual = [line for line in lines if line.split()[:1] == [name]] or [table[params["layer"], params["precision"]]]
        assert f"{result['metrics']['quality/spearman']:.4f} [" in actual[0]
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines[-4:]}
    assert Path(shown["results"]).resolve() == headline.root
    assert Path(shown["report"]).resolve() == headline.root / "report.html"
    assert re.fullmatch(
        r"\d+\.\d s: load .*, forward .*, scoring .*, timing .*, tracking .*, (rest|of runs side by side,) .*",
        shown["time"],
    )
    assert lines[-1] == "look     mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"
    assert headline.done.stderr.splitlines() == [
        f"precision={precision},layer={layer}" for precision in PRECISIONS for layer in LAYERS
    ]
