"""Single runs that go well: published word vectors, a real checkpoint on real pairs."""

from __future__ import annotations

from pathlib import Path

from rwkv_sweep.records.own_files import (
    CRASH_FILE,
    HYDRA_FILES,
    LOG_FILE,
    RUN_FILES,
    SEARCH_FILE,
    STOP_FILE,
    SWEEP_FILES,
)
from tests.e2e.finished import Command, Sweep


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


def test_all_files_of_a_sweep_are_listed(command: Command, job: list[str], tmp_path: Path) -> None:
    """With everything measured: what is not listed would not be logged, nor moved when the sweep is resumed."""
    arguments = ["-m", *job, "layer=[2,4],[1,3]", "aggregation=mean", "precision=bf16", "isolate=true"]
    arguments += [
        "measure.parity=true",
        "measure.representation=true",
        "measure.overhead=true",
        "measure.speedup_rounds=1",
        "measure.overhead_pairs=2",
        "postprocess=center",
    ]
    arguments += ["measure.overhead_batches=1", "baselines=[word_overlap]", "hydra.sweep.dir=sweep"]
    done = command(arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    root = tmp_path / "sweep"
    of_runs = {"0", "1", *(f"baselines/{path.name}" for path in (root / "baselines").iterdir())}
    listed = {*SWEEP_FILES, *(f"{run}/{name}" for run in of_runs for name in (*RUN_FILES, *HYDRA_FILES, LOG_FILE))}
    written = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert written <= listed
    not_always = {STOP_FILE, f"0/{CRASH_FILE}", f"0/{SEARCH_FILE}"}
    assert {name for name in listed - not_always if not name.startswith(("baselines/", "1/"))} <= written
    assert {path.name for path in tmp_path.iterdir()} == {"sweep", "mlruns"}
