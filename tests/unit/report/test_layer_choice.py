"""What each criterion's choice of a layer loses, on a made-up sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import layer_choice
from tests.unit.report.test_without_labels import NOISE, made_up


def test_choices_and_their_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = made_up(tmp_path)
    for result, folder in zip(records.results, records.folders, strict=True):
        result.save(folder)
    monkeypatch.setattr(layer_choice, "RESAMPLES", 100)
    monkeypatch.setattr("sys.argv", ["layer_choice", str(tmp_path)])
    layer_choice.main()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    by_name = {name: cells for name, *cells in lines}
    best = max(run.metrics["quality/spearman"] for run in records.results)
    assert by_name["best in hindsight (all)"] == ["4", f"{best:.3f}", "0"] == by_name["infonce"]
    lowest = NOISE.index(max(NOISE))  # the curvature of a layer is minus its noise, and the lowest chooses
    own = records.results[lowest].metrics["quality/spearman"]
    layer, value, loss = by_name["curvature"]
    assert (layer, value) == (str(lowest), f"{own:.3f}") and loss.startswith(f"{best - own:.3f} [")
    assert "lidar" not in by_name
