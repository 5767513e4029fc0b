"""What each criterion's choice of a layer loses, on a made-up sweep; the table of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import layer_choice, tables
from tests.unit.report.test_without_labels import NOISE, made_up


def test_choices_and_their_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = made_up(tmp_path)
    for result, folder in zip(records.results, records.folders, strict=True):
        result.save(folder)
    learned = records.folders[1]
    monkeypatch.setattr(layer_choice, "RESAMPLES", 100)
    choices = layer_choice.choices(tmp_path, learned)
    by_name = {choice["by"]: choice for choice in choices}
    best = max(run.metrics["quality/spearman"] for run in records.results)
    in_hindsight = by_name["best in hindsight (all)"]
    assert (in_hindsight["layer"], in_hindsight["spearman"], in_hindsight["loss"]) == ("4", best, [0.0, 0.0, 0.0])
    assert {**by_name["infonce"], "by": ""} == {**in_hindsight, "by": ""}
    lowest = NOISE.index(max(NOISE))  # the curvature of a layer is minus its noise, and the lowest chooses
    own = records.results[lowest].metrics["quality/spearman"]
    curvature = by_name["curvature"]
    assert (curvature["layer"], curvature["spearman"]) == (str(lowest), own)
    loss, low, high = curvature["loss"]
    assert loss == pytest.approx(best - own) and low < loss < high
    assert by_name[layer_choice.LEARNED]["layer"] == "all"
    assert by_name[layer_choice.LEARNED]["spearman"] == records.results[1].metrics["quality/spearman"]
    assert "lidar" not in by_name

    text = tables.layer_choice({"choices": {"rwkv6": choices, "rwkv7": choices}})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[0][:4] == ["chosen by", "RWKV-6: layer", "Spearman", "loss [95 %]"]
    assert lines[2] == ["best in hindsight (all)", *["4", f"{best:.3f}", "0"] * 2]
    (row,) = [line for line in lines if line[0] == "curvature"]
    assert row[3] == row[6] == f"{loss:.3f} [{low:.3f}, {high:.3f}]"


def test_all_label_free_metrics_choose() -> None:
    names = {metric.removeprefix("representation/") for metric, _ in layer_choice.CRITERIA.values()}
    known = (
        "entropy effective_rank prompt_entropy anisotropy uniformity alignment curvature intrinsic_dimension infonce"
    )
    assert {*known.split(), "dime", "lidar"} <= names
