"""What every sweep leaves beside its page: a table in Markdown, and figures where they are asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rwkv_sweep.report.overview import pareto_front, speed_figure, write_overview
from rwkv_sweep.report.tables import summary_markdown
from rwkv_sweep.sweep_folder import sweep_results
from rwkv_sweep.sweep_record import SweepRecord
from tests.made_up_sweeps import SweepWriter


def cells(line: str) -> list[str]:
    return line.removeprefix("| ").removesuffix(" |").split(" | ")


def markdown(sweep: SweepWriter) -> str:
    return summary_markdown(sweep_results(sweep.root), SweepRecord.load(sweep.root))


def test_table_has_a_row_a_run_and_reasons(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    sweep.run(0.3, 5.0, layer="1")
    sweep.run(0.35, 6.5, layer="3", precision="bf16")
    sweep.failed("no |room| for *it*", layer="5")
    sweep.baseline()
    text = markdown(sweep)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, *rows = map(cells, lines)
    assert rows.pop(0) == [":--", *["--:"] * (len(head) - 1)]
    named = [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]
    assert [row["layer"] for row in named] == ["1", "3", "5", "word_overlap"]
    assert [row["ms/pair"] for row in named[:2]] == ["5.00", "6.50"]
    assert named[1]["Spearman [95 %]"] == "0.3500 [0.300, 0.400]"
    assert named[2]["Spearman [95 %]"] == "FAILED"
    assert r"no \|room\| for \*it\*" in text
    assert text.startswith("**layer=1,3 precision=fp32,bf16**\n\ndevice Made-up CPU; commit abc\n\n|")


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
    assert write_overview([], tmp_path / "report") == []
    assert not (tmp_path / "report").exists()


def test_figures_of_a_sweep(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    for seed, (layer, precision) in enumerate((each, kind) for each in ("1", "final") for kind in ("fp32", "bf16")):
        sweep.run(0.2 + 0.1 * seed, 2.0 + 5 * seed, seed=seed, layer=layer, precision=precision)
    sweep.baseline("word_vectors", 0.25)
    paths = write_overview(sweep_results(sweep.root), tmp_path / "report")
    assert [path.name for path in paths] == [
        *("spearman_by_layer.svg", "spearman_by_layer.png"),
        *("quality_against_speed.svg", "quality_against_speed.png"),
    ]
    assert all(path.read_bytes()[:4] in (b"\x89PNG", b"<?xm") for path in paths)


def test_speed_against_quality_names_the_front(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    for layer, spearman, ms in (("1", 0.2, 2.0), ("3", 0.1, 4.0), ("final", 0.4, 20.0)):
        sweep.run(spearman, ms, layer=layer)
    figure = speed_figure(sweep_results(sweep.root))
    assert figure is not None
    (axes,) = figure.axes
    named = {text.get_text() for text in axes.texts}
    assert {"layer 1", "final layer"} <= named and "layer 3" not in named
    assert axes.get_xscale() == "log", "ten times as fast"
    assert axes.get_xlabel() == "tokens/s (more is better)"
    assert speed_figure([]) is None


@pytest.mark.parametrize(
    ("more", "front"),
    [(True, [2, 1]), (False, [0, 1])],
)
def test_front(more: bool, front: list[int]) -> None:
    #          slow, poor   slow, best  fast, poor  beaten by the last but one
    places = [(1.0, 0.1), (2.0, 0.4), (3.0, 0.1), (2.5, 0.05)]
    assert pareto_front(places, more) == front


def test_front_of_equals_is_one() -> None:
    assert pareto_front([(1.0, 0.5), (1.0, 0.5), (1.0, 0.7)], True) == [2]
