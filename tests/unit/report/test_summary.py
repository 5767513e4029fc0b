"""The table at the end of a sweep: as text, in a narrow terminal, and as a file."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report import summary
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.summary import print_summary, write_summary
from rwkv_sweep.report.tables import summary_markdown

TRACKING = {"enabled": True, "uri": "sqlite:///mlruns/mlflow.db", "artifacts": "mlruns/artifacts", "experiment": "e"}
RECORD = SweepRecord("layer=1,3 precision=fp16", None, ["layer", "precision", "model.path"], ["mean"], None, TRACKING)

DONE = Result(
    "layer=1",
    "model",
    FINISHED,
    {"layer": "1", "precision": "fp16", "model.path": "a[b]"},
    {
        "quality/spearman": 0.28491,
        "quality/spearman_lo": -0.2061,
        "quality/spearman_hi": 0.6709,
        "baseline/word_vectors/delta": 0.0285,
        "latency/mean_ms": 5.058,
        "latency/p99_ms": 5.284,
        "throughput/tokens_per_s": 63203.4,
        "memory/weights_mib": 1.96,
        "memory/process_peak_mib": 1798.4,
    },
)
BROKEN = Result(
    "layer=3",
    "model",
    FAILED,
    {"layer": 3, "precision": "fp16"},
    error={"kind": "OutOfMemoryError", "message": "OutOfMemoryError: 2 GiB [asked for]"},
)
BASELINE = Result(
    "word_vectors",
    "baseline",
    FINISHED,
    {"model": "word_vectors"},
    {"quality/spearman": 0.4326, "quality/spearman_lo": 0.35, "quality/spearman_hi": 0.5, "latency/mean_ms": 0.06},
)
RESULTS = [DONE, BROKEN, BASELINE]


def printed(capsys: pytest.CaptureFixture[str], results: list[Result], record: SweepRecord = RECORD) -> list[str]:
    print_summary(results, record, Path("multirun/today"))
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def row(lines: list[str], first: str) -> list[str]:
    (cells_of_row,) = [line.split() for line in lines if line.split()[0] == first]
    return cells_of_row


def test_finished_failed_and_baseline_rows(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, RESULTS)
    assert lines[0] == "layer=1,3 precision=fp16"
    assert [name.strip() for name in lines[1].split("  ") if name.strip()] == [
        "layer",
        "precision",
        "model.path",
        "Spearman [95 %]",
        "vs word_vectors",
        "ms/pair",
        "p99 ms",
        "tokens/s",
        "weights MiB",
        "process MiB",
    ]
    done = ["1", "fp16", "a[b]", "0.2849", "[-0.206,", "0.671]", "+0.0285", "5.06", "5.28", "63,203", "2.0", "1,798"]
    assert row(lines, "1") == done
    assert row(lines, "3") == ["3", "fp16", "FAILED"]
    assert row(lines, "word_vectors") == ["word_vectors", "0.4326", "[0.350,", "0.500]", "0.06"]
    assert lines[-3:] == [
        "FAILED layer=3: OutOfMemoryError: 2 GiB [asked for]",
        "results  multirun/today",
        "look     mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db",
    ]


def test_device_memory_comes_before_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    on_gpu = replace(DONE, metrics={**DONE.metrics, "memory/peak_allocated_mib": 321.0})
    assert row(printed(capsys, [on_gpu]), "1")[-1] == "321"


def test_interleaved_times_stand_in_place_of_times_taken_one_after_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """72 ms beside 40 ms would say the opposite of the ratio that was measured in paired rounds."""
    ratio = {"overhead/latency_ratio": 1.02, "overhead/latency_ratio_lo": 0.97, "overhead/latency_ratio_hi": 1.07}
    lines = printed(capsys, [replace(DONE, metrics={**DONE.metrics, **ratio}), BROKEN, BASELINE])
    assert "pair time / final [95 %]" in lines[1] and "1.02 [0.97, 1.07]" in lines[3]
    assert not [name for name in ("ms/pair", "p99 ms", "tokens/s") if name in lines[1]]


def test_every_split_has_a_column_under_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    params = {**DONE.params, "dataset.splits": "[train[:1000],validation]"}
    splits = {
        f"quality/{name}/spearman{suffix}": value + shift
        for name, value in (("train_first_1000", 0.2849), ("validation", 0.1))
        for suffix, shift in (("", 0), ("_lo", -0.1), ("_hi", 0.1))
    }
    lines = printed(capsys, [replace(DONE, params=params, metrics={**DONE.metrics, **splits})])
    assert "Spearman train[:1000] [95 %]   Spearman validation [95 %]   vs word_vectors, train[:1000]" in lines[1]
    assert "0.2849 [0.185, 0.385]" in lines[3] and "0.1000 [0.000, 0.200]" in lines[3]


def test_without_tracking_there_is_nothing_to_open(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, RESULTS, replace(RECORD, tracking={**TRACKING, "enabled": False}))
    assert lines[-1] == "results  multirun/today"


@pytest.mark.parametrize(
    ("width", "kept"),
    [
        (143, ["p99 ms", "weights MiB", "process MiB", "vs word_vectors"]),
        (133, ["weights MiB", "process MiB", "vs word_vectors"]),
        (120, ["process MiB", "vs word_vectors"]),
        (104, ["vs word_vectors"]),
        (90, []),
    ],
)
def test_narrow_terminal_drops_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, kept: list[str]
) -> None:
    class Terminal(summary.Console):
        def __init__(self) -> None:
            super().__init__(force_terminal=True, width=width, color_system=None)

    monkeypatch.setattr(summary, "Console", Terminal)
    lines = printed(capsys, RESULTS)
    assert [name for name in ("p99 ms", "weights MiB", "process MiB", "vs word_vectors") if name in lines[1]] == kept
    assert "Spearman [95 %]" in lines[1] and "tokens/s" in lines[1]
    # All but the first and the last lines, which are not the table's.
    assert max(len(line) for line in lines[1:6]) <= width
    assert "0.2849 [-0.206, 0.671]" in lines[3] and "…" not in "".join(lines)
    dropped = {"p99 ms", "weights MiB", "process MiB", "vs word_vectors"} - {*kept}
    text = " ".join(lines)
    sentence = re.search(r"too narrow for (.*?); see summary\.csv", text)
    assert ({*sentence[1].split(", ")} if sentence else set()) == dropped
    for name in ("p99 ms", "weights MiB", "process MiB", "vs NAME"):
        assert (f"{name}: " in text) == (name.replace("NAME", "word_vectors") in kept), "columns shown are explained"


def test_baselines_are_set_apart_and_columns_explained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = printed(capsys, RESULTS)
    rules = [number for number, line in enumerate(lines) if line and not line.strip(" \u2500")]
    names = [line.split()[0] for line in lines]
    assert rules == [names.index("layer") + 1, names.index("word_vectors") - 1]
    assert "[95 %]: 95 % bootstrap interval." in " ".join(lines)
    assert len([line for line in printed(capsys, RESULTS[:2]) if line and not line.strip(" \u2500")]) == 1
    text = summary_markdown(find(RECORD, RESULTS, [tmp_path] * 3), RECORD)
    assert "\n| *word_vectors* |" in text and "\n| 1 |" in text
    assert "vs NAME: Spearman less that of this baseline" in text and "Rows in italics are baselines" in text


def test_summary_file_has_every_run_and_every_value(tmp_path: Path) -> None:
    path = write_summary(RESULTS, tmp_path)
    assert path == tmp_path / "summary.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row_of_file["name"], row_of_file["kind"], row_of_file["status"]) for row_of_file in rows] == [
        ("layer=1", "model", "FINISHED"),
        ("layer=3", "model", "FAILED"),
        ("word_vectors", "baseline", "FINISHED"),
    ]
    assert {key: float(rows[0][key]) for key in DONE.metrics} == DONE.metrics
    assert rows[0]["model.path"] == "a[b]" and rows[1]["quality/spearman"] == ""
    assert rows[2]["model"] == "word_vectors" and rows[2]["layer"] == ""
