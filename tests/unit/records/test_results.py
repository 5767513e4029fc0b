"""Records on disk: what is written comes back, and nothing half-written stays."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from rwkv_sweep.records.results import FAILED, FINISHED, Result, read_scores, write_latency, write_pairs
from rwkv_sweep.utils.files import write_atomically


def test_round_trip(tmp_path: Path) -> None:
    result = Result(
        name="layer=1,precision=fp16",
        kind="model",
        status=FINISHED,
        params={"layer": "1", "bootstrap": 50, "model.path": None, "dataset.splits": "[all]"},
        metrics={"quality/spearman": 0.1 + 0.2, "latency/mean_ms": 1e-7},
        tags={"device_name": "Überprozessor"},
        started=1.5,
        ended=2.25,
        id="0123",
        key="4567",
    )
    result.save(tmp_path / "new" / "folder")
    assert Result.load(tmp_path / "new" / "folder") == result
    content = json.loads((tmp_path / "new" / "folder" / "result.json").read_text(encoding="utf-8"))
    names = ["ended", "error", "id", "key", "kind", "metrics", "name", "params", "started", "status", "tags"]
    assert list(content) == names
    assert content["metrics"]["quality/spearman"] == 0.30000000000000004 and content["error"] is None


def test_failure_keeps_its_reason(tmp_path: Path) -> None:
    error = {"kind": "UserError", "message": 'a "quoted"\nreason'}
    Result("x", "model", FAILED, {}, error=error).save(tmp_path)
    assert Result.load(tmp_path).error == error
    assert Result.load(tmp_path).metrics == {}


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664), (0o027, 0o640)])
def test_atomic_write_replaces_whole_files_with_the_modes_of_any_new_file(
    tmp_path: Path, umask: int, mode: int
) -> None:
    path = tmp_path / "new" / "file.txt"
    before = os.umask(umask)
    try:
        write_atomically(path, "first, and rather long\n")
        write_atomically(path, "second\n")
    finally:
        os.umask(before)
    assert path.read_text() == "second\n"
    assert os.listdir(path.parent) == ["file.txt"]
    assert path.stat().st_mode & 0o777 == mode
    assert path.parent.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, "new\n")
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["file.txt"]
    assert path.read_text() == "old\n"


def test_a_record_that_json_cannot_hold_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Result("x", "model", FINISHED, {"path": tmp_path}).save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_pairs_with_commas_and_quotes(tmp_path: Path) -> None:
    splits = ["train[:2],odd", 'say "hi"']
    write_pairs(
        tmp_path, [(splits[0], 0, 1.0, 0.123456789012345678), (splits[1], 0, 0.0, 0.5), (splits[0], 1, 0.0, -1)]
    )
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == [splits[0], splits[1], splits[0]]
    assert rows[1] == {"split": 'say "hi"', "row": "0", "label": "0.0", "score": "0.5"}
    assert read_scores(tmp_path, splits[0]) == [0.123456789012345678, -1.0]
    assert read_scores(tmp_path, "absent") == []


def test_latency_rows(tmp_path: Path) -> None:
    write_latency(tmp_path, [1.5, 0.25])
    assert (tmp_path / "latency_ms.csv").read_text() == "sample,latency_ms\n0,1.5\n1,0.25\n"
