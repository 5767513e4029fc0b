"""The command line from start to end: what it leaves in the folders, in MLflow and on the terminal."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

Command = Callable[..., "subprocess.CompletedProcess[str]"]

LAYERS, PRECISIONS = ("1", "3", "5", "7", "9", "11"), ("fp16", "int8")
BASELINES = ("word_overlap", "word_vectors")
QUALITY = ("spearman", "spearman_lo", "spearman_hi", "pearson", "average_precision", "auc", "f1", "accuracy")
BASELINE_METRICS = {
    *(f"quality/{name}" for name in QUALITY),
    *(f"quality/all/{name}" for name in QUALITY),
    *(f"latency/{name}_ms" for name in ("mean", "p50", "p95", "p99")),
}
MODEL_METRICS = BASELINE_METRICS | {
    "throughput/tokens_per_s",
    "throughput/pairs_per_s",
    "memory/weights_mib",
    "memory/process_peak_mib",
    *(f"baseline/{name}/delta" for name in BASELINES),
}


@dataclass(frozen=True)
class Sweep:
    """A command that has ended, its folder, and what MLflow has of it."""

    done: subprocess.CompletedProcess[str]
    cwd: Path

    @property
    def root(self) -> Path:
        """The one output folder."""
        (found,) = [*self.cwd.glob("multirun/*/*"), *self.cwd.glob("outputs/*/*")]
        return found

    def runs(self, kind: str) -> list[Any]:
        """MLflow's runs of one kind, in the order of their names."""
        client = mlflow_client(self.cwd)
        (experiment,) = [each for each in client.search_experiments() if each.name == "rwkv_sweep"]
        found = client.search_runs([experiment.experiment_id], f"tags.`rwkv_sweep.kind` = '{kind}'")
        return sorted(found, key=lambda run: str(run.info.run_name))

    def only(self, kind: str) -> Any:
        (found,) = self.runs(kind)
        return found

    def results(self) -> dict[str, Any]:
        """Every result.json by the name of its run."""
        read = [json.loads(path.read_text()) for path in self.root.rglob("result.json")]
        return {content["name"]: content for content in read}


def mlflow_client(cwd: Path) -> Any:
    from rwkv_sweep.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{cwd}/mlruns/mlflow.db")


def without_tracking_time(result: dict[str, Any]) -> dict[str, float]:
    """How long MLflow took to take a run, MLflow cannot know."""
    return {key: value for key, value in result["metrics"].items() if key != "time/tracking_s"}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- the headline -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def headline(command: Command, job: list[str], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    cwd = tmp_path_factory.mktemp("headline")
    # The modes may stand anywhere; MLFLOW_RUN_ID must not redirect anything.
    arguments = ["-m", f"layer={','.join(LAYERS)}", f"precision={','.join(PRECISIONS)}", *job]
    return Sweep(command(arguments, cwd, MLFLOW_RUN_ID="0" * 32), cwd)


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
    assert {each.path for each in kept} == {"summary.csv", "report.html"}
    assert len(rows_of(headline.root / "summary.csv")) == 14
    assert {path.name for path in headline.cwd.iterdir()} == {"mlruns", "multirun"}


def test_headline_prints_a_table_and_how_to_go_on(headline: Sweep) -> None:
    lines = headline.done.stdout.splitlines()
    table = {tuple(line.split()[:2]): line for line in lines if line.strip()}
    for name, result in headline.results().items():
        params = result["params"]
        found = [line for line in lines if line.split()[:1] == [name]] or [table[params["layer"], params["precision"]]]
        assert f"{result['metrics']['quality/spearman']:.4f} [" in found[0]
    told = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines[-4:]}
    assert Path(told["results"]).resolve() == headline.root
    assert Path(told["report"]).resolve() == headline.root / "report.html"
    assert re.fullmatch(r"\d+\.\d s: load .*, forward .*, scoring .*, timing .*, tracking .*, rest .*", told["time"])
    assert lines[-1] == "look     mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"
    assert headline.done.stderr.splitlines() == [
        f"precision={precision},layer={layer}" for precision in PRECISIONS for layer in LAYERS
    ]


# --- other runs that go well --------------------------------------------------------------------------------------


def test_single_run(command: Command, job: list[str], tmp_path: Path) -> None:
    sweep = Sweep(command([*job, "layer=[2,4]", "aggregation=mean", "baselines=[word_overlap]"], tmp_path), tmp_path)
    assert sweep.done.returncode == 0, sweep.done.stderr
    assert sweep.runs("sweep") == []
    run, baseline = sweep.only("model"), sweep.only("baseline")
    assert run.info.run_name == "model=local,layer=[2,4],precision=fp32"
    assert run.data.params["layer"] == "2+4" and run.data.params["depth"] == "5"
    assert "mlflow.parentRunId" not in run.data.tags and "mlflow.parentRunId" not in baseline.data.tags
    recorded = sweep.results()[run.info.run_name]["metrics"]
    # How long tracking took is known only afterwards, so MLflow does not have it.
    assert run.data.metrics == {key: value for key, value in recorded.items() if key != "time/tracking_s"}
    assert "baseline/word_overlap/delta" in run.data.metrics and "baseline/word_vectors/delta" not in run.data.metrics
    assert (sweep.root / "result.json").is_file() and (sweep.root / ".hydra" / "config.yaml").is_file()
    assert "2+4" in sweep.done.stdout and "word_overlap" in sweep.done.stdout


def test_published_figures_of_word_vectors_reach_mlflow(
    command: Command, quality_only: list[str], shared_data: Path, tmp_path: Path
) -> None:
    arguments = ["layer=0", "model=random", "model.hidden_size=64", "model.num_blocks=1", "model.tokenizer=bytes"]
    arguments += ["model.vocab_size=256", "model.intermediate_size=64", "dataset=mrpc", "bootstrap=20", "device=cpu"]
    arguments += [f"dataset.path={shared_data / 'mrpc'}", 'dataset.splits=["validation","train[:1000]"]']
    arguments += [f"word_vectors.path={shared_data / 'glove' / 'glove.6B.50d.subset.txt'}", *quality_only]
    sweep = Sweep(command(arguments, tmp_path), tmp_path)
    assert sweep.done.returncode == 0, sweep.done.stderr
    metrics = {run.info.run_name: run.data.metrics for run in sweep.runs("baseline")}
    assert round(metrics["word_vectors"]["quality/validation/spearman"], 4) == 0.4326
    assert round(metrics["word_vectors"]["quality/train_first_1000/spearman"], 4) == 0.3876
    assert round(metrics["word_overlap"]["quality/validation/spearman"], 4) == 0.4165


def test_real_checkpoint_on_real_pairs(
    command: Command, quality_only: list[str], shared_data: Path, shared_models: Path, tmp_path: Path
) -> None:
    arguments = ["layer=1", "model=local", f"model.path={shared_models / 'rwkv6-tiny-bytes.pth'}", "device=cpu"]
    arguments += ["model.tokenizer=bytes", "dataset=mrpc", f"dataset.path={shared_data / 'mrpc'}", "bootstrap=20"]
    arguments += ['dataset.splits=["validation[:60]"]', "store.enabled=false", *quality_only]
    sweep = Sweep(command(arguments, tmp_path), tmp_path)
    assert sweep.done.returncode == 0, sweep.done.stderr
    trained = sweep.only("model")
    assert trained.data.metrics["quality/pairs"] == 60
    assert 0.1 < trained.data.metrics["quality/spearman"] < 0.6
    assert trained.data.metrics["quality/spearman"] == trained.data.metrics["quality/validation_first_60/spearman"]


# --- runs that do not end well ------------------------------------------------------------------------------------


TOO_LARGE = (
    "blocks.2.attention.key.weight has an entry of size 1e+06, too large for float16: valid is precision=bf16 or fp32"
)


@pytest.fixture(scope="module")
def mixed(command: Command, job: list[str], small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Four jobs: weights that fp16 cannot hold, the same in fp32, and random weights in both."""
    from rwkv_sweep.models.loading import load_causal_lm

    model = load_causal_lm(small_model)
    model.rwkv.blocks[2].attention.key.weight.data[0, 0] = 1e6
    folder = tmp_path_factory.mktemp("mixed")
    model.save_pretrained(folder / "large")
    sizes = ("hidden_size=32", "num_blocks=4", "head_size=8", "intermediate_size=64", "vocab_size=256")
    arguments = [f"model.path={folder / 'large'}", *(f"model.{size}" for size in sizes), "layer=3"]
    arguments += ["-m", "model=local,random", "precision=fp16,fp32"]
    cwd = folder / "cwd"
    return Sweep(command([*without(job, arguments), *arguments], cwd), cwd)


def test_a_failing_job_is_a_recorded_result(mixed: Sweep) -> None:
    assert mixed.done.returncode == 1
    runs = {run.info.run_name: run for run in mixed.runs("model")}
    assert {name: run.info.status for name, run in runs.items()} == {
        "model=local,precision=fp16": "FAILED",
        "model=local,precision=fp32": "FINISHED",
        "model=random,precision=fp16": "FINISHED",
        "model=random,precision=fp32": "FINISHED",
    }
    failed, finished = runs["model=local,precision=fp16"], runs["model=local,precision=fp32"]
    assert failed.data.tags["rwkv_sweep.error_message"] == TOO_LARGE
    assert failed.data.tags["rwkv_sweep.error_kind"] == "UserError"
    assert failed.data.params["precision"] == "fp16"
    assert all(name.startswith("time/") for name in failed.data.metrics)
    assert finished.data.metrics == without_tracking_time(mixed.results()[finished.info.run_name])
    assert finished.data.metrics.keys() >= MODEL_METRICS
    assert mixed.only("sweep").info.status == "FAILED"
    assert mixed.results()[failed.info.run_name]["error"] == {"kind": "UserError", "message": TOO_LARGE}


def test_a_failing_job_is_told_in_the_table_and_at_once(mixed: Sweep) -> None:
    lines = mixed.done.stdout.splitlines()
    assert ["3", "fp16", "local", "FAILED"] in [line.split() for line in lines]
    assert f"FAILED model=local,precision=fp16: {TOO_LARGE}" in lines
    assert mixed.done.stderr.splitlines() == [
        "model=local,precision=fp16",
        f"error: model=local,precision=fp16 failed: {TOO_LARGE}",
        "model=local,precision=fp32",
        "model=random,precision=fp16",
        "model=random,precision=fp32",
    ]


def test_random_weights_have_no_quality(mixed: Sweep) -> None:
    for run in mixed.runs("model"):
        scored = {key for key in run.data.metrics if key.startswith(("quality/", "baseline/"))}
        if run.data.params["model"] == "random":
            assert run.data.tags["note.quality"] == "absent: the weights are random"
            assert scored == set()
            assert run.data.metrics["throughput/tokens_per_s"] > 0 and run.data.metrics["latency/p50_ms"] > 0
        else:
            assert "note.quality" not in run.data.tags
    assert not (mixed.root / "2" / "pairs.csv").exists() and (mixed.root / "1" / "pairs.csv").exists()


def test_interrupt_keeps_what_has_finished(job: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    arguments = ["-m", *job, "layer=range(0,12)", "precision=fp32,fp16", "baselines=[word_overlap]"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rwkv_sweep", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # The second job's folder: by then the first is in MLflow, too.
        wait_for(lambda: any(tmp_path.glob("multirun/*/*/1")), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted: what had finished is kept" and "Traceback" not in err
    assert out == ""
    sweep = Sweep(subprocess.CompletedProcess(arguments, 130, out, err), tmp_path)
    assert sweep.only("sweep").info.status == "KILLED"
    statuses = {run.info.run_name: run.info.status for run in sweep.runs("model")}
    assert statuses["precision=fp32,layer=0"] == "FINISHED"
    assert len(statuses) < 24 and set(statuses.values()) <= {"FINISHED", "KILLED"}
    recorded = {name: result["status"] for name, result in sweep.results().items() if result["kind"] == "model"}
    assert recorded == statuses
    assert sweep.only("baseline").info.status == "FINISHED"


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate(timeout=5)
        time.sleep(0.02)


# --- bad input ----------------------------------------------------------------------------------------------------

IN_TURN = """
import contextlib, io, json, os, sys
from rwkv_sweep.__main__ import main

told = []
for arguments, cwd in json.load(sys.stdin):
    os.makedirs(cwd)
    os.chdir(cwd)
    os.environ.pop("HYDRA_FULL_ERROR", None)
    sys.argv = ["rwkv_sweep", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    told.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(told))
"""
"""One process for many commands: they fail in less time than their imports take."""

LAYERS_OF_12 = (
    "valid are 0 to 11 (blocks), final (or 12 or -1), embedding, all, firstN, lastN, or a list of these such as [1,3,5]"
)
# Arguments behind those of `job`, and what is told; {bad} is the folder of `bad_files`.
BAD_INPUT: dict[str, tuple[list[str], str]] = {
    "layer": (["layer=99"], f"layer=99 is not a layer of this model: {LAYERS_OF_12}"),
    "layer in a sweep": (["-m", "layer=1,99,3"], f"layer=99 is not a layer of this model: {LAYERS_OF_12}"),
    "precision": (["precision=int9"], "precision=int9 is not known: valid are bf16, fp16, fp32, "),
    "precision in a sweep": (
        ["-m", "precision=fp16,int9"],
        "precision=int9 is not known: valid are bf16, fp16, fp32, ",
    ),
    "number for a group": (["precision=8"], "Config group override must be a string or a list. Got int"),
    "numbers for a group in a sweep": (
        ["-m", "precision=8,16"],
        "Config group override must be a string or a list. Got int",
    ),
    "pooling": (["pooling=men"], "pooling=men is not known: valid are "),
    "pooling value": (["pooling.name=men"], "pooling.name=men is not known: valid are mean, "),
    "key": (["layers=1"], "layers is not a key: valid are aggregation, "),
    "key in a group": (["model.folder=x"], "model.folder is not a key: valid are foreign_tokenizer, "),
    "type": (["bootstrap=many"], "bootstrap=many is not valid: it takes a value of type Integer"),
    "list without aggregation": (
        ["layer=[1,3]"],
        "aggregation=none takes one layer, but layer names 2: choose aggregation=mean, ",
    ),
    "dataset": (
        ["dataset.path=/nowhere"],
        "dataset.path=/nowhere does not exist: give a file, or a folder with one file per split",
    ),
    "column": (
        ["dataset.path={bad}/two_columns.tsv"],
        "dataset.label=label: {bad}/two_columns.tsv has no such column, there are sentence1, sentence2",
    ),
    "model": (
        ["model.path=/nowhere"],
        "/nowhere does not exist: expected a folder with config.json and weights, or a .pth file",
    ),
    "no model path": (["model.path=null"], "model.path=None must be given with model.source=local: a folder with "),
    "truncated .pth": (["model.path={bad}/cut.pth"], "{bad}/cut.pth is damaged or not a PyTorch weight file: "),
    "truncated safetensors": (
        ["model.path={bad}/cut"],
        "{bad}/cut/model.safetensors is damaged or not a safetensors file: ",
    ),
    "NaN": (
        ["model.path={bad}/nan"],
        "{bad}/nan: rwkv.blocks.3.ln1.weight holds NaN or infinity, so the weights are damaged: fetch the file again",
    ),
    "tokenizer": (
        ["model.tokenizer=world"],
        "model.tokenizer=world has ids up to 65529, but the model's embedding table has 256 rows: valid is the "
        "tokenizer that the model was trained with",
    ),
    "device": (
        ["device=cuda"],
        "device=cuda device.index=0 is not on this machine, which has no CUDA device: use device=cpu",
    ),
}


@pytest.fixture(scope="module")
def bad_files(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from rwkv_sweep.models.checkpoint import _to_original_name
    from rwkv_sweep.models.loading import load_causal_lm

    folder = tmp_path_factory.mktemp("bad")
    (folder / "two_columns.tsv").write_text("sentence1\tsentence2\na\tb\n")
    model = load_causal_lm(small_model)
    torch.save({_to_original_name(name): weight for name, weight in model.state_dict().items()}, folder / "cut.pth")
    model.save_pretrained(folder / "cut")
    for path in (folder / "cut.pth", folder / "cut" / "model.safetensors"):
        os.truncate(path, path.stat().st_size // 2)
    model.get_parameter("rwkv.blocks.3.ln1.weight").data[5] = float("nan")
    model.save_pretrained(folder / "nan")
    return folder


@dataclass(frozen=True)
class Refused:
    code: int
    out: str
    err: str
    cwd: Path


@pytest.fixture(scope="module")
def refused(
    environment: dict[str, str], job: list[str], bad_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Refused]:
    """What each of BAD_INPUT came to."""
    root = tmp_path_factory.mktemp("refused")
    folders = [root / str(number) for number in range(len(BAD_INPUT))]
    commands = [
        ([*without(job, extra), *(each.replace("{bad}", str(bad_files)) for each in extra)], str(folder))
        for (extra, _), folder in zip(BAD_INPUT.values(), folders, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN],
        cwd=root,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return {
        name: Refused(*told, folder)
        for name, told, folder in zip(BAD_INPUT, json.loads(done.stdout), folders, strict=True)
    }


def without(job: Sequence[str], extra: Sequence[str]) -> list[str]:
    """The job's overrides but those that `extra` gives anew."""
    keys = {override.partition("=")[0] for override in extra}
    return [override for override in job if override.partition("=")[0] not in keys]


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(name: str, refused: dict[str, Refused], bad_files: Path) -> None:
    found = refused[name]
    told = "error: " + BAD_INPUT[name][1].replace("{bad}", str(bad_files))
    assert found.err.startswith(told) and found.err.endswith("\n") and found.err.count("\n") == 1, found.err
    # What ends in a blank goes on with words that are not ours.
    assert told.endswith((" ", "valid are")) or found.err == told + "\n"
    assert (found.code, found.out) == (2, "")
    assert list(found.cwd.iterdir()) == []


def test_bad_input_in_a_process_of_its_own(command: Command, job: list[str], tmp_path: Path) -> None:
    done = command([*job, "-m", "precision=int9,fp16"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: precision=int9 is not known: valid are bf16, fp16, fp32, ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- what must be quick -------------------------------------------------------------------------------------------


def test_help_names_groups_and_keys(command: Command, tmp_path: Path) -> None:
    done = command(["--help"], tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "\nprecision: bf16, fp16, fp32, " in done.stdout
    assert "python -m rwkv_sweep -m layer=1,3,5,7,9,11 precision=fp16,int8" in done.stdout
    assert "\nlayer: final\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_shows_what_would_run(command: Command, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    done = command(["--cfg", "job", "layer=5", "precision=int8"], tmp_path)
    assert done.returncode == 0, done.stderr
    config = OmegaConf.create(done.stdout)
    assert (config.layer, config.precision.quantization, config.model.name) == (5, "int8", "tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rwkv_sweep precision=b", ["precision=bf16"]),
        ("rwkv_sweep precision=fp1", ["precision=fp16"]),
        ("rwkv_sweep measure.late", ["measure.latency_pairs="]),
    ],
)
def test_shell_completion(command: Command, tmp_path: Path, line: str, offered: list[str]) -> None:
    done = command(["-sc", "query=bash"], tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - {"precision=schema"} == set(offered)


def test_starting_up_loads_nothing_heavy(environment: dict[str, str], tmp_path: Path) -> None:
    look = "import sys, rwkv_sweep.__main__; print([name for name in {} if name in sys.modules])"
    heavy = ("torch", "mlflow", "transformers", "datasets", "numba", "scipy", "sklearn", "pandas")
    done = subprocess.run(
        [sys.executable, "-c", look.format(heavy)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
