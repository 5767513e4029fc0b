"""What every sweep leaves beside its page: a table in Markdown, and figures where they are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.charts.overview import speed_view, write_overview
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.speeds.pareto import unbeaten
from rwkv_sweep.report.tables import summary_markdown
from tests.made_up_sweeps import SweepWriter


def cells(line: str) -> list[str]:
    return line.removeprefix("| ").removesuffix(" |").split(" | ")


def findings_of(sweep: SweepWriter) -> Findings:
    return find(SweepRecord.load(sweep.root), sweep_results(sweep.root), result_folders(sweep.root))


def markdown(sweep: SweepWriter) -> str:
    return summary_markdown(findings_of(sweep), SweepRecord.load(sweep.root))


def test_table_has_a_row_a_run_and_reasons(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    sweep.run(0.3, 5.0, layer="1", compared=False)
    sweep.run(0.35, 6.5, layer="3", precision="bf16", compared=False)
    sweep.failed("no |room| for *it*", layer="5")
    sweep.baseline()
    text = markdown(sweep)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, *rows = map(cells, lines)
    assert rows.pop(0) == [":--", *["--:"] * (len(head) - 1)]
    named = [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]
    assert [row["layer"] for row in named] == ["1", "3", "5", "*word_overlap*"]
    assert [row["ms/pair"] for row in named[:2]] == ["5.00", "6.50"]
    assert named[1]["Spearman [95 %]"] == "0.3500 [0.300, 0.400]"
    assert named[2]["Spearman [95 %]"] == "FAILED"
    assert r"no \|room\| for \*it\*" in text
    assert text.startswith("**layer=1,3 precision=fp32,bf16**\n\ndevice Made-up CPU; commit abc\n\n*Which run is best")


def test_many_failures_are_counted_not_listed(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    for number in range(23):
        sweep.failed(f"reason {number}", layer=str(number))
    text = markdown(sweep)
    assert len(re.findall(r"^- FAILED", text, re.M)) == 20
    assert "- and 3 more runs\n" in text


def test_a_sweep_without_runs(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    assert "|" not in markdown(sweep)
    assert write_overview(findings_of(sweep), tmp_path / "report") == []
    assert not (tmp_path / "report").exists()


def test_figures_of_a_sweep(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    for seed, (layer, precision) in enumerate(
        (layer_name, kind) for layer_name in ("1", "final") for kind in ("fp32", "bf16")
    ):
        sweep.run(0.2 + 0.1 * seed, 2.0 + 5 * seed, seed=seed, layer=layer, precision=precision)
    sweep.baseline("word_vectors", 0.25)
    paths = write_overview(findings_of(sweep), tmp_path / "report")
    assert [path.name for path in paths] == [
        *("spearman_by_layer.svg", "spearman_by_layer.png"),
        *("quality_against_speed.svg", "quality_against_speed.png"),
    ]
    assert all(path.read_bytes()[:4] in (b"\x89PNG", b"<svg") for path in paths)


def test_speed_against_quality_names_what_is_not_beaten(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s", pairs=400)
    for layer, spearman, ms in (("1", 0.2, 2.0), ("3", 0.1, 4.0), ("final", 0.4, 20.0)):
        sweep.run(spearman, ms, layer=layer)
    view = speed_view(findings_of(sweep))
    assert view is not None
    named = {row["name"] for row in view.rows if "name" in row}
    assert named == {"layer 1", "final layer"}
    assert [row["best"] for row in view.rows] == [True, False, True]
    (points,) = [layer for layer in view.spec["layer"] if layer.get("name") == "points"]
    assert points["encoding"]["x"]["scale"]["type"] == "log", "ten times as fast"
    assert view.name == "speed for packed batches over final-layer inference"
    assert speed_view(findings_of(SweepWriter(tmp_path / "empty"))) is None


def test_nothing_is_called_the_fastest_of_runs_timed_one_after_another(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s", pairs=400)
    for layer, ms in (("1", 2.0), ("final", 20.0)):
        sweep.run(0.2, ms, layer=layer, compared=False)
    view = speed_view(findings_of(sweep))
    assert view is not None
    assert view.name == "tokens/s, timed one after another"
    assert not any("name" in row for row in view.rows)


def sign(values: list[float], noise: float) -> Callable[[int, int], int]:
    """More is better, by more than `noise`."""
    return lambda i, j: 0 if abs(values[i] - values[j]) <= noise else 1 if values[i] > values[j] else -1


@pytest.mark.parametrize(
    ("noise", "left"),
    [
        (0.0, [1, 2]),  # slow and poor; slow and best; fast and poor; beaten in both; as 2 but a little slower
        (0.06, [1, 2, 4]),
        (10.0, [0, 1, 2, 3, 4]),
    ],
)
def test_what_no_run_is_shown_to_beat(noise: float, left: list[int]) -> None:
    speed, quality = [1.0, 2.0, 3.0, 2.5, 2.95], [0.1, 0.4, 0.1, 0.02, 0.1]
    assert unbeaten(5, sign(quality, noise), sign(speed, noise)) == left


def test_equals_are_all_left() -> None:
    assert unbeaten(3, lambda i, j: 0, lambda i, j: 0) == [0, 1, 2]
    rock = lambda i, j: (0, 1, -1)[(i - j) % 3]  # noqa: E731  each beats the next in a circle
    assert unbeaten(3, rock, lambda i, j: 0) == [0, 1, 2]
