"""What makes two runs the same, and what a resumed sweep finds, keeps and sets aside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from rwkv_sweep import identity
from rwkv_sweep.config import (
    AggregationConfig,
    DatasetConfig,
    DeviceConfig,
    ModelConfig,
    PoolingConfig,
    PostprocessConfig,
    PrecisionConfig,
    PromptConfig,
    RunConfig,
    StoreConfig,
    TrackingConfig,
)
from rwkv_sweep.errors import UserError
from rwkv_sweep.identity import baseline_key, run_key
from rwkv_sweep.results import FAILED, FINISHED, Result
from rwkv_sweep.resume import recorded, take_over
from rwkv_sweep.sweep_folder import claim, is_claimed, prepare_resume, release, sweep_results
from rwkv_sweep.sweep_record import STOP_FILE, SWEEP_FILE

NOWHERE = TrackingConfig(False, "sqlite:///x.db", "x", "x")


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """A random model of one block, and three pairs."""
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\tlabel\na b\ta b\t1\nc d\te f\t0\ng\tg h\t1\n")
    sizes = {"hidden_size": 16, "num_blocks": 1, "head_size": 8, "intermediate_size": 32, "vocab_size": 256}
    return RunConfig(
        model=ModelConfig("random", "random", tokenizer="bytes", **sizes),
        pooling=PoolingConfig("mean"),
        precision=PrecisionConfig("fp32", "float32"),
        aggregation=AggregationConfig("none"),
        postprocess=PostprocessConfig("none"),
        prompt=PromptConfig("none"),
        device=DeviceConfig("cpu", "cpu"),
        dataset=DatasetConfig("pairs", "file", str(pairs), splits=["all"]),
        tracking=NOWHERE,
        store=StoreConfig(path="store"),
    )


SAME: dict[str, Callable[[RunConfig], RunConfig]] = {
    "tracking": lambda run: replace(run, tracking=replace(run.tracking, uri="http://elsewhere")),
    "store": lambda run: replace(run, store=StoreConfig(False, "other")),
    "how": lambda run: replace(run, resume=True, isolate=True, timeout_s=3.0, on_error="stop", report="quantization"),
    "gpu": lambda run: replace(run, device=replace(run.device, index=3, name="auto", type="auto")),
}
OTHER: dict[str, Callable[[RunConfig], RunConfig]] = {
    "layer": lambda run: replace(run, layer=0),
    "pooling": lambda run: replace(run, pooling=PoolingConfig("last")),
    "seed": lambda run: replace(run, seed=1),
    "threads": lambda run: replace(run, device=replace(run.device, threads=1)),
    "sizes": lambda run: replace(run, model=replace(run.model, hidden_size=32)),
    "measure": lambda run: replace(run, measure=replace(run.measure, latency_pairs=7)),
    "batch": lambda run: replace(run, batch_tokens=64),
    "split": lambda run: replace(run, dataset=replace(run.dataset, splits=["all[:2]"])),
    "baselines": lambda run: replace(run, baselines=["word_overlap"]),
}


@pytest.mark.parametrize("change", SAME)
def test_how_a_run_is_run_is_not_what_it_is(run: RunConfig, change: str) -> None:
    assert run_key(SAME[change](run)) == run_key(run)


@pytest.mark.parametrize("change", OTHER)
def test_what_decides_a_result_is_in_its_key(run: RunConfig, change: str) -> None:
    assert run_key(OTHER[change](run)) != run_key(run)


def test_data_are_known_by_content_not_by_path(run: RunConfig, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tsv"
    shutil.copyfile(tmp_path / "pairs.tsv", copy)
    moved = replace(run, dataset=replace(run.dataset, path=str(copy)))
    assert run_key(moved) == run_key(run) and baseline_key("word_overlap", moved) == baseline_key("word_overlap", run)
    copy.write_text(copy.read_text().replace("g h", "g i"))
    assert run_key(moved) != run_key(run) and baseline_key("word_overlap", moved) != baseline_key("word_overlap", run)


def test_baselines_have_keys_of_their_own(run: RunConfig) -> None:
    keys = {run_key(run), baseline_key("word_overlap", run), baseline_key("word_vectors", run)}
    assert len(keys) == 3
    assert baseline_key("word_overlap", replace(run, layer=0)) == baseline_key("word_overlap", run)


def test_the_code_is_in_the_key(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_key(run)
    monkeypatch.setattr(identity, "code_digest", lambda: "another program")
    assert run_key(run) != before


def test_sources_that_decide_nothing_exist(repo_root: Path) -> None:
    """A name that no longer fits would let its source into the key, or a new one out of it."""
    package = repo_root / "rwkv_sweep"
    assert [name for name in identity.NOT_DECIDING if not (package / name).exists()] == []


def finished(folder: Path, name: str, status: str = FINISHED) -> Result:
    result = Result(
        name, "model", status, {"layer": name}, {"quality/spearman": 0.5}, id=f"id-{name}", key=f"key-{name}"
    )
    result.save(folder)
    (folder / "pairs.csv").write_text(name)
    return result


def test_a_folder_of_its_own_key_is_taken_as_it_is(tmp_path: Path) -> None:
    result = finished(tmp_path, "a")
    assert recorded(tmp_path, "key-a") == result
    assert recorded(tmp_path, "key-b") is None and recorded(tmp_path / "none", "key-a") is None
    finished(tmp_path, "a", FAILED)
    assert recorded(tmp_path, "key-a") is None
    (tmp_path / "result.json").write_text("{")
    assert recorded(tmp_path, "key-a") is None


def test_what_is_finished_stays_the_rest_makes_room(tmp_path: Path) -> None:
    for number, name, status in ((0, "a", FINISHED), (1, "b", FAILED), (2, "c", FINISHED), (4, "e", FINISHED)):
        finished(tmp_path / str(number), name, status)
    (tmp_path / "3" / ".hydra").mkdir(parents=True)
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "result.json").write_text("{")
    (tmp_path / "baselines" / "x").mkdir(parents=True)
    (tmp_path / STOP_FILE).write_text("b")
    prepare_resume(tmp_path, {0: "key-a", 1: "key-b", 2: "key-e", 3: "key-d"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "baselines", "earlier"]
    earlier = sorted(path.name for path in (tmp_path / "earlier").iterdir())
    assert earlier == ["1-id-b", "2-id-c", "4-id-e", "5-damaged"]
    assert [result.name for result in sweep_results(tmp_path)] == ["a"]

    (tmp_path / "2").mkdir()
    found = take_over(tmp_path / "2", tmp_path, "key-e", "new name", NOWHERE)
    assert found is not None and (found.name, found.id) == ("new name", "id-e")
    assert (tmp_path / "2" / "pairs.csv").read_text() == "e" and recorded(tmp_path / "2", "key-e") == found
    assert take_over(tmp_path / "2", tmp_path, "key-b", "x", NOWHERE) is None  # it had failed
    assert take_over(tmp_path / "2", tmp_path, "key-z", "x", NOWHERE) is None


def test_setting_aside_twice_keeps_one(tmp_path: Path) -> None:
    for _ in range(2):
        finished(tmp_path / "0", "a")
        prepare_resume(tmp_path, {0: "another"})
    assert [path.name for path in (tmp_path / "earlier").iterdir()] == ["0-id-a"]


def test_a_single_runs_record_makes_room_too(tmp_path: Path) -> None:
    finished(tmp_path, "a")
    (tmp_path / SWEEP_FILE).write_text("{}")
    prepare_resume(tmp_path, {0: "key-a"})
    assert (tmp_path / "result.json").exists()
    prepare_resume(tmp_path, {0: "another"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier", SWEEP_FILE]
    assert {path.name for path in (tmp_path / "earlier" / "run-id-a").iterdir()} == {"result.json", "pairs.csv"}


def test_damaged_records_are_failures_that_say_so(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "result.json").write_text('{"name": 5}')
    (found,) = sweep_results(tmp_path)
    assert found.status == FAILED and found.error is not None and "is damaged: " in found.error["message"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    claim(root, False, "hydra.sweep.dir")
    assert is_claimed(root)
    release(root)
    with FileLock(root / ".lock"), pytest.raises(UserError, match="is being written by another process"):
        claim(root, True, "hydra.sweep.dir")
    (root / SWEEP_FILE).write_text("{}")
    with pytest.raises(UserError, match="holds a sweep already: valid is resume=true"):
        claim(root, False, "hydra.sweep.dir")
    claim(root, True, "hydra.sweep.dir")
    release(root)
