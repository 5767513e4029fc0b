"""A baseline that the data leave undefined, or that fails, is a record with its reason; the rest of a sweep goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rwkv_sweep.config.params import data_key
from rwkv_sweep.config.schema import (
    AggregationConfig,
    DatasetConfig,
    DeviceConfig,
    MeasureConfig,
    ModelConfig,
    PoolingConfig,
    PostprocessConfig,
    PrecisionConfig,
    PromptConfig,
    RunConfig,
    TrackingConfig,
)
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation import quality
from rwkv_sweep.evaluation.baselines import (
    Baseline,
    ScorePairs,
    baseline_folder,
    baseline_scores,
    load_baselines,
    run_baseline,
)
from rwkv_sweep.evaluation.quality import score_differences
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.records.results import FAILED, FINISHED, UNDEFINED, Result
from rwkv_sweep.sweep import preflight
from rwkv_sweep.sweep.preflight import Prepared
from rwkv_sweep.sweep.runs.process import Process

HEADER = "sentence1\tsentence2\tlabel\n"
OVERLAPPING = HEADER + "a cat\ta cat\t1\nthe cat\train fell\t0\na dog ran\ta dog sat\t1\nthe rain\tsnow\t0\n"
DISJOINT = HEADER + "a cat\tthe dog\t1\none mat\ttwo roofs\t0\nwe sang\tthey sing\t1\n"


class Panic(BaseException):
    """As a Rust library raises: not an `Exception`."""


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    data = tmp_path / "data"
    data.mkdir()
    (data / "some.tsv").write_text(OVERLAPPING)
    (data / "none.tsv").write_text(DISJOINT)
    return RunConfig(
        model=ModelConfig("tiny", "assets"),
        pooling=PoolingConfig("mean"),
        precision=PrecisionConfig("fp32", "float32"),
        aggregation=AggregationConfig("none"),
        postprocess=PostprocessConfig("none"),
        prompt=PromptConfig("none"),
        device=DeviceConfig("cpu", "cpu"),
        dataset=DatasetConfig("pairs", "file", str(data), splits=["some"], word_split="punctuation"),
        measure=MeasureConfig(latency_pairs=2, warmup_pairs=0),
        tracking=TrackingConfig(False, "sqlite:///a.db", "a", "e"),
        baselines=["word_overlap"],
        bootstrap=30,
    )


def overlap_of(run: RunConfig) -> Baseline:
    (baseline,) = load_baselines(run.baselines, None, run.dataset.word_split)
    return baseline


def by(score_pairs: ScorePairs) -> Baseline:
    return Baseline("word_overlap", score_pairs, {})


def folder_of(root: Path, run: RunConfig) -> Path:
    return baseline_folder(root, "word_overlap", data_key(run))


def run_one(baseline: Baseline, run: RunConfig, root: Path) -> Result:
    resampling = Resampling(run.bootstrap, run.seed)
    splits = load_splits(run.dataset)
    return run_baseline(baseline, splits, run.dataset, run.measure, resampling, folder_of(root, run))


def scored(run: RunConfig, root: Path, *splits: str) -> Result:
    run.dataset.splits = list(splits)
    result = run_one(overlap_of(run), run, root)
    assert Result.load(folder_of(root, run)).status == result.status
    return result


def differences(
    run: RunConfig, split: PairSplit, scores: np.ndarray, root: Path
) -> tuple[dict[str, float], dict[str, str]]:
    references = {
        f"baseline/{name}": theirs
        for name, theirs in baseline_scores(run.baselines, data_key(run), split, root).items()
    }
    return score_differences(references, split, scores, Resampling(run.bootstrap, run.seed))


def test_undefined_is_a_record_with_its_reason(run: RunConfig, tmp_path: Path) -> None:
    result = scored(run, tmp_path, "none")
    assert result.status == UNDEFINED and result.error is not None and result.error["kind"] == "Undefined"
    assert result.error["message"].startswith("split none: all 3 scores are 0: Spearman is undefined")
    assert result.error["message"].endswith("(no two sentences of a pair share a word)")
    assert not [key for key in result.metrics if key.startswith("quality/")]
    assert result.metrics["latency/mean_ms"] > 0 and result.tags["data_fingerprint"]
    assert (folder_of(tmp_path, run) / "pairs.csv").exists()


@pytest.mark.parametrize(("splits", "bare"), [(("some", "none"), True), (("none", "some"), False)])
def test_splits_that_are_defined_keep_their_figures(
    run: RunConfig, tmp_path: Path, splits: tuple[str, str], bare: bool
) -> None:
    result = scored(run, tmp_path, *splits)
    assert result.status == UNDEFINED and result.error is not None
    assert result.error["message"].startswith("split none: ") and "split some" not in result.error["message"]
    alone = scored(run, tmp_path / "alone", "some")
    assert alone.status == FINISHED and alone.error is None
    assert result.metrics["quality/some/spearman"] == alone.metrics["quality/spearman"]
    assert not [key for key in result.metrics if key.startswith("quality/none/")]
    # The figure without a split's name is that of the first split, never of another one.
    assert ("quality/spearman" in result.metrics) == bare
    run.dataset.splits = list(splits)
    first = load_splits(run.dataset)
    deltas, notes = differences(run, first[0], np.arange(len(first[0]), dtype=float), tmp_path)
    assert ("baseline/word_overlap/delta" in deltas) == bare and notes == {}


@pytest.mark.parametrize("error", [Panic("index out of range"), ZeroDivisionError("by zero"), MemoryError()])
def test_whatever_else_goes_wrong_is_a_failure_with_its_reason(
    run: RunConfig, tmp_path: Path, error: BaseException
) -> None:
    result = run_one(by(raises(error)), run, tmp_path)
    assert result.status == FAILED and result.error is not None
    assert type(error).__name__ in result.error["message"] and "\n" not in result.error["message"]
    assert "Traceback" in result.error["traceback"]
    splits = load_splits(run.dataset)
    assert differences(run, splits[0], np.arange(4.0), tmp_path) == ({}, {})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_a_request_to_end_is_no_failure(run: RunConfig, tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_one(by(raises(error)), run, tmp_path)


def test_scores_that_are_nan_are_a_failure_not_undefined(run: RunConfig, tmp_path: Path) -> None:
    def nan(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        return np.full(len(first), np.nan)

    result = run_one(by(nan), run, tmp_path)
    assert result.status == FAILED and result.error is not None and "NaN or infinite" in result.error["message"]


@pytest.mark.parametrize(
    ("splits", "on_error", "stopped"), [("none", "stop", False), ("some", "continue", False), ("some", "stop", True)]
)
def test_only_a_failed_baseline_stops_a_sweep_that_is_to_stop(
    run: RunConfig,
    tmp_path: Path,
    splits: str,
    on_error: str,
    stopped: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = replace(run, on_error=on_error, dataset=replace(run.dataset, splits=[splits]))
    baseline = overlap_of(run) if splits == "none" else by(raises(Panic("index out of range")))
    Prepared(run, load_splits(run.dataset), [baseline]).run_baselines(tmp_path, None, Process())
    assert (tmp_path / "stopped").exists() == stopped
    wording = capsys.readouterr().err
    assert wording.count("\n") == 1
    assert wording.startswith("word_overlap undefined: " if splits == "none" else "error: word_overlap failed: Panic: ")


def test_a_resumed_sweep_does_not_repeat_an_undefined_baseline(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(run, resume=True, dataset=replace(run.dataset, splits=["none"]))
    prepared = Prepared(run, load_splits(run.dataset), [overlap_of(run)])
    prepared.run_baselines(tmp_path, None, Process())
    folder = folder_of(tmp_path, run)
    before = Result.load(folder)
    monkeypatch.setattr(preflight, "run_baseline", raises(AssertionError("run again")))
    prepared.run_baselines(tmp_path, None, Process())
    assert Result.load(folder) == before


def test_a_difference_without_a_resample_is_left_out_and_noted(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have a correlation of their own, but no resample has both: three pairs can do that."""
    scored(run, tmp_path, "some")
    splits = load_splits(run.dataset)

    def undefined(*args: object) -> None:
        raise UndefinedError("none of 30 resamples has a value")

    monkeypatch.setattr(quality, "paired_differences", undefined)
    deltas, notes = differences(run, splits[0], np.arange(4.0), tmp_path)
    assert deltas == {}
    assert notes == {"note.baseline/word_overlap/delta": "undefined: none of 30 resamples has a value"}


def raises(error: BaseException) -> ScorePairs | Callable[..., Result]:
    def scorer(*args: object) -> np.ndarray:
        raise error

    return scorer
