"""Records that anything may have happened to: each is read whole, or refused with a reason in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.csv_tables import spreadsheet_safe, table_text
from rwkv_sweep.records.results import RESULT_FILE, Result, read_scores
from rwkv_sweep.records.sweep_folder import sweep_results
from rwkv_sweep.records.sweep_record import SWEEP_FILE, SweepRecord
from tests.damaged_records import CHANGES, SWEEP_CHANGES

RECORD: dict[str, Any] = {
    **{"name": "layer=1", "kind": "model", "status": "FINISHED", "params": {"layer": "1", "seed": 0, "x": None}},
    **{
        "metrics": {"quality/spearman": 0.5},
        "tags": {"device": "cpu"},
        "error": None,
        "started": 1.8e9,
        "ended": 1.8e9,
    },
    **{"id": "0123456789abcdef", "key": "fedcba"},
}
SCORES = ("split,row,label\nall,0,1\n", "split,row,label,score\nall,0,1,x\n", "\0\0", "split,score\nall")


def written(folder: Path, text: str | bytes, name: str = RESULT_FILE) -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_a_whole_record_and_one_of_a_newer_version(tmp_path: Path) -> None:
    loaded = Result.load(written(tmp_path, json.dumps({**RECORD, "new_field": [1], "schema": 7})))
    assert {key: getattr(loaded, key) for key in RECORD} == RECORD


@pytest.mark.parametrize("change", CHANGES)
def test_damaged_records_are_refused_with_a_reason(tmp_path: Path, change: str) -> None:
    written(tmp_path, CHANGES[change](RECORD))
    with pytest.raises(UserError) as refused:
        Result.load(tmp_path)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / RESULT_FILE} is damaged: ") and len(message) < 400
    (stands_for,) = sweep_results(tmp_path)
    assert stands_for.is_damaged and stands_for.status == "FAILED" and stands_for.error is not None
    assert stands_for.error["message"] == message


@pytest.mark.parametrize("change", SWEEP_CHANGES)
def test_damaged_sweep_records_are_refused_with_a_reason(tmp_path: Path, change: str) -> None:
    SweepRecord("a", None, ["layer"], ["mean"], None, {}, id="1").save(tmp_path)
    whole = json.loads((tmp_path / SWEEP_FILE).read_text())
    written(tmp_path, SWEEP_CHANGES[change](whole), SWEEP_FILE)
    with pytest.raises(UserError, match="is damaged: "):
        SweepRecord.load(tmp_path)


@pytest.mark.parametrize(
    "tracking", [{}, {"uri": "x", "artifacts": "y"}, {"enabled": 1, "uri": "x", "artifacts": "y", "experiment": "z"}]
)
def test_where_a_sweep_was_tracked(tmp_path: Path, tracking: dict[str, Any]) -> None:
    record = SweepRecord("a", None, [], [], None, tracking)
    with pytest.raises(UserError, match=r"tracking\.\w+"):
        record.tracking_config()
    whole = {"enabled": True, "uri": "x", "artifacts": "y", "experiment": "z", "of_a_newer_version": 1}
    assert SweepRecord("a", None, [], [], None, whole).tracking_config().uri == "x"


@pytest.mark.parametrize("text", SCORES)
def test_damaged_scores(tmp_path: Path, text: str) -> None:
    written(tmp_path, text, "pairs.csv")
    try:
        assert read_scores(tmp_path, "all") == []
    except UserError as error:
        assert "pairs.csv is damaged" in str(error)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_of_an_export_is_a_formula(start: str) -> None:
    formula = f"{start}cmd|' /C calc'!A0"
    text = table_text(["name", f"{start}header()"], [[formula, -0.5], ["layer=1", "-1"], ["a\rb", ""]])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    ours = start.replace("\r", "\n")
    assert rows[0] == ["name", f"'{ours}header()"] and rows[1] == [f"'{formula}".replace("\r", "\n"), "-0.5"]
    assert rows[2:] == [["layer=1", "-1"], ["a\nb", ""]]
    assert spreadsheet_safe(f"{start}1+1") == f"'{ours}1+1"
