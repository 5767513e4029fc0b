"""The report on several models: their runs on one scale of depth, tables and answer from the raw records."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report import write_report
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.generations.answer import ONE_MODEL, OneModel
from rwkv_sweep.report.generations.models import memory_mib, microseconds_per_token, model_runs
from tests.made_up_sweeps import SweepWriter, around

MODELS = {"/a/five.pth": ("RWKV-5", 4, 0.30), "/b/seven.pth": ("RWKV-7", 8, 0.50)}
"""Generation, blocks, and Spearman of the embedding; each quarter of the depth adds 0.02, the final norm takes 0.05."""


def fill(sweep: SweepWriter, models: list[str], rate: float = 1e6) -> None:
    for path in models:
        generation, blocks, spearman = MODELS[path]
        layers = {"embedding": 0, str(blocks // 2 - 1): blocks // 2, str(blocks - 1): blocks, "final": blocks}
        for seed, (layer, depth) in enumerate(layers.items()):
            value = spearman + 0.08 * depth / blocks - (0.05 if layer == "final" else 0)
            speed = around("throughput/tokens_per_s", rate / (1 + depth), rate / (10 * (1 + depth)))
            dotted = {"depth": depth, "model.path": path, "model": "local"}
            tags = {"generation": generation}
            sweep.run(value, 5.0, seed, tags, compared=False, more=speed, dotted=dotted, layer=layer)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepWriter:
    return SweepWriter(tmp_path / "sweep", pairs=200, report="generations")


def test_runs_of_each_model_are_on_one_scale_of_depth(sweep: SweepWriter) -> None:
    fill(sweep, list(MODELS))
    five, seven = model_runs(sweep_results(sweep.root))
    assert (five.name, seven.name) == ("RWKV-5 five", "RWKV-7 seven") and (five.blocks, seven.blocks) == (4, 8)
    for model in (five, seven):
        assert [model.relative_depth(run) for run in model.runs] == [0, 0.5, 1, 1]
        best = model.best()
        assert best is not None and best.params["layer"] == str((model.blocks or 0) - 1)
    time = microseconds_per_token(five.runs[1])
    assert time is not None
    assert (time.value, time.lo, time.hi) == pytest.approx((3.0, 3 / 1.1, 3 / 0.9))
    assert memory_mib(five.runs[0]) == 900.0


def test_the_report_has_a_table_for_each_model_and_figures(sweep: SweepWriter) -> None:
    fill(sweep, list(MODELS))
    paths = write_report("generations", sweep_results(sweep.root), sweep.root)
    assert {path.name for path in paths} == {
        "report.md",
        "table.csv",
        *(f"{stem}.{ending}" for stem in ("quality", "time") for ending in ("svg", "png")),
    }
    text = paths[0].read_text(encoding="utf-8")
    assert "## RWKV-5 five" in text and "## RWKV-7 seven" in text
    assert "| 3 | 1.00 | 0.380 [0.330, 0.430] | 5 [4.55, 5.56] |" in text
    assert "the runs' scores are missing" not in text
    with paths[1].open(encoding="utf-8") as file:
        rows = {(row["group"], row["label"]): row for row in csv.DictReader(file)}
    assert float(rows["RWKV-7 seven", "3"]["share_of_blocks"]) == 0.5
    assert float(rows["RWKV-7 seven", "3"]["us_per_token"]) == pytest.approx(5.0)


def test_the_answer_names_the_best_run_and_each_models_best_layer(sweep: SweepWriter) -> None:
    fill(sweep, list(MODELS))
    results, folders = sweep_results(sweep.root), result_folders(sweep.root)
    answer = find(SweepRecord.load(sweep.root), results, folders).answer
    sections = {section.name: section for section in answer.sections}
    assert "layer 7, path seven.pth" in sections[""].statements[0].text
    (five,), (seven,) = sections["RWKV-5 five"].statements, sections["RWKV-7 seven"].statements
    assert isinstance(five, OneModel) and isinstance(seven, OneModel)
    assert (five.best, five.share, five.spearman.value) == ("3", 1.0, pytest.approx(0.38))
    assert (seven.best, seven.final) == ("7", pytest.approx(0.53))
    assert (five.cheapest, five.dearest) == pytest.approx((1.0, 5.0))
    assert five.text == (
        "Highest at layer 3, after 100% of the blocks: Spearman 0.380, 95 % interval 0.330 to 0.430; the final layer "
        "has 0.330. A token takes 1 to 5 microseconds, by layer. Weights: 40.0 MiB."
    )


def test_one_model_or_none_is_stated(sweep: SweepWriter) -> None:
    record = SweepRecord.load(sweep.root)
    assert "No run finished" in find(record, [], []).answer.sections[0].statements[0].text
    fill(sweep, ["/a/five.pth"])
    results, folders = sweep_results(sweep.root), result_folders(sweep.root)
    texts = [
        statement.text for section in find(record, results, folders).answer.sections for statement in section.statements
    ]
    assert ONE_MODEL in texts


def test_without_speed_or_a_final_run_the_report_says_what_it_can(sweep: SweepWriter) -> None:
    dotted = {"depth": 3, "model.path": "/a/five.pth"}
    sweep.run(0.3, 5.0, compared=False, dotted=dotted, layer="2")
    (model,) = model_runs(sweep_results(sweep.root))
    assert model.name == "five" and model.blocks is None and model.relative_depth(model.runs[0]) is None
    text = write_report("generations", sweep_results(sweep.root), sweep.root)[0].read_text(encoding="utf-8")
    assert "| 2 | n/a | 0.300 [0.250, 0.350] | n/a |" in text
