"""The specifications of all charts: valid Vega-Lite, the rows that the records hold, no colour of their own."""

from __future__ import annotations

import builtins
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.charts.chart import Chart, Runs
from rwkv_sweep.report.charts.files import standalone, write_views
from rwkv_sweep.report.charts.heat import heat_views
from rwkv_sweep.report.charts.layers import layers_view, places
from rwkv_sweep.report.charts.overview import page_charts, runs_of
from tests.made_up_sweeps import SweepWriter


def charts_of(sweep: SweepWriter) -> list[Chart]:
    findings = find(SweepRecord.load(sweep.root), sweep_results(sweep.root), result_folders(sweep.root))
    return page_charts(findings, runs_of(findings), {0: [float(ms) for ms in range(1, 22)]})


@pytest.fixture
def sweep(tmp_path: Path) -> SweepWriter:
    """Three layers, two poolings, two kinds of post-processing."""
    made = SweepWriter(tmp_path / "s")
    for number, layer in enumerate(("1", "3", "final")):
        for pooling in ("mean", "last"):
            for postprocess in ("none", "whiten"):
                made.run(0.3 + 0.01 * number, 5.0, layer=layer, pooling=pooling, postprocess=postprocess)
    made.run(0.4, 5.0, layer="all", aggregation="mean", pooling="mean", precision="bf16", postprocess="none")
    made.baseline()
    return made


def test_every_specification_is_valid_vega_lite(sweep: SweepWriter) -> None:
    import altair

    charts = charts_of(sweep)
    assert [chart.id for chart in charts] == ["layers", "speed", "memory", "map", "latency", "overhead", "parity"]
    views = {view.name: (chart, view) for chart in charts for view in chart.views}
    firsts = [chart.views[0] for chart in charts]
    for view in firsts:
        altair.Chart.from_dict(standalone(view, view.rows), validate=True)
    for chart, view in views.values():
        assert view.rows, chart.id
        assert json.dumps(view.rows, allow_nan=False)
        assert "#" not in json.dumps(view.spec).replace(view.spec["$schema"], ""), "colours belong to the theme"


def test_series_that_differ_in_two_keys_are_told_apart(sweep: SweepWriter) -> None:
    runs = Runs.of(sweep_results(sweep.root))
    fields = [runs.fields(run) for _, run in runs.finished]
    looks = {(row["colour"], row["shape"], row["series"]) for row in fields}
    assert len({(colour, shape) for colour, shape, _ in looks}) == len(looks) == 5


def test_layers_stand_at_their_true_distances(sweep: SweepWriter) -> None:
    runs = Runs.of(sweep_results(sweep.root))
    names = places([run for _, run in runs.finished])
    assert names == [*(str(block) for block in range(1, 12)), "final", "mean all"]


def test_the_heat_map_averages_over_nothing_in_silence(tmp_path: Path, sweep: SweepWriter) -> None:
    views = {view.name: view for view in heat_views(Runs.of(sweep_results(sweep.root)))}
    by_pooling = views["Spearman: layer by pooling"]
    assert len({row["map"] for row in by_pooling.rows}) == 3, "a map for each combination of the other keys"
    many = SweepWriter(tmp_path / "many")
    for layer in ("1", "3"):
        for seed in range(9):
            many.run(0.3, 5.0, layer=layer, precision="fp32" if seed % 2 else "bf16", seed_of_run=str(seed))
    named = [view.name for view in heat_views(Runs.of(sweep_results(many.root)))]
    assert "Spearman, mean over seed_of_run: layer by precision" in named


def test_an_interval_is_drawn_as_it_was_measured(sweep: SweepWriter) -> None:
    view = layers_view(Runs.of(sweep_results(sweep.root)))
    assert view is not None
    first = view.rows[0]
    assert (first["value"], first["lo"], first["hi"]) == pytest.approx((0.3, 0.25, 0.35))


def test_without_vl_convert_the_log_says_so_once(
    sweep: SweepWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "vl_convert":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    runs = Runs.of(sweep_results(sweep.root))
    with caplog.at_level(logging.INFO):
        assert write_views([("layers", layers_view(runs))], runs, tmp_path / "report") == []
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert not (tmp_path / "report").exists()
