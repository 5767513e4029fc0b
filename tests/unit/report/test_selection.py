"""The run that is chosen on one split and scored on another, from made-up records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from rwkv_sweep.cli.register import _chosen as registered_run
from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.plain_sweep.selection import Chosen, chosen_run
from rwkv_sweep.report.plain_sweep.statements import Caution
from tests.made_up_sweeps import SweepWriter
from tests.recomputed import column, raw_records

Run = tuple[str, float, float, float | None]
"""Layer, Spearman on the scored split, ms for a pair, Spearman on the split to choose on."""
RUNS: list[Run] = [("1", 0.40, 2.0, 0.50), ("3", 0.45, 5.0, 0.48), ("5", 0.30, 8.0, 0.52)]


def findings_of(root: Path, runs: Sequence[Run], select: dict[str, Any] | None = None) -> Findings:
    sweep = SweepWriter(root, pairs=200)
    for seed, (layer, spearman, ms, there) in enumerate(runs):
        figures = {} if there is None else {"select/spearman": there, "select/auc": 1 - there}
        sweep.run(spearman, ms, seed=seed, layer=layer, more=figures, dotted={"select.split": "train"})
    record = replace(SweepRecord.load(root), select=select or {})
    record.save(root)
    return find(SweepRecord.load(root), sweep_results(root), result_folders(root))


@pytest.mark.parametrize(
    ("select", "layer", "among"),
    [
        ({}, "5", 3),
        ({"by": "quality/spearman"}, "5", 3),
        ({"by": "quality/auc"}, "3", 3),
        ({"max_latency_ms": 6}, "1", 3),
        ({"max_latency_ms": 5.0, "max_weights_mib": 40}, "1", 3),
        ({"max_latency_ms": None, "by": "quality/auc"}, "3", 3),
    ],
)
def test_the_highest_on_the_other_split_within_the_limits(
    tmp_path: Path, select: dict[str, Any], layer: str, among: int
) -> None:
    choice = chosen_run(findings_of(tmp_path / "sweep", RUNS, select).answer)
    assert choice is not None and choice.label == f"layer {layer}" and choice.among == among
    assert choice.spearman.value == next(spearman for name, spearman, *_ in RUNS if name == layer)
    assert f"Chosen on train by {'AUC' if 'auc' in str(select) else 'Spearman'}" in choice.text


def test_the_chosen_run_is_the_one_to_register(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings_of(tmp_path / "chosen", RUNS)
    assert registered_run(tmp_path / "chosen").params["layer"] == "5"
    assert ", chosen on train by spearman: Spearman 0.300 " in capsys.readouterr().err
    findings_of(tmp_path / "highest", [(*run[:3], None) for run in RUNS])
    assert registered_run(tmp_path / "highest").params["layer"] == "3"
    assert ", the highest Spearman: no split chose one: Spearman 0.450 " in capsys.readouterr().err


def test_figures_are_those_of_the_records(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    choice = chosen_run(findings_of(root, RUNS).answer)
    assert choice is not None and choice.loss is not None
    records = {record["params"]["layer"]: record for record in raw_records(root)}
    labels = column(records["5"], "all", "label")
    own, highest = (spearmanr(column(records[layer], "all", "score"), labels).statistic for layer in ("5", "3"))
    assert choice.loss.value == pytest.approx(highest - own)
    assert choice.loss.lo < choice.loss.value < choice.loss.hi
    assert (choice.highest, choice.most.value, choice.value) == ("layer 3", 0.45, 0.52)
    assert "The highest on all, layer 3 with 0.450, is optimistic" in choice.text
    assert choice.metrics()["select/spearman"] == 0.30 and choice.metrics()["select/loss"] == choice.loss.value
    assert choice.tags()["select.label"] == "layer 5" and choice.tags()["select.split"] == "train"


def test_the_highest_may_be_the_chosen_one(tmp_path: Path) -> None:
    choice = chosen_run(findings_of(tmp_path / "sweep", [("1", 0.4, 2.0, 0.5), ("3", 0.3, 2.0, 0.4)]).answer)
    assert choice is not None and choice.text.endswith("the highest on all too.")
    assert choice.metrics()["select/loss"] == 0


def test_a_tie_is_not_broken_by_the_scored_split(tmp_path: Path) -> None:
    """The first of the records wins, though another one is higher where it is scored."""
    runs: list[Run] = [("1", 0.1, 2.0, 0.5), ("3", 0.9, 2.0, 0.5)]
    choice = chosen_run(findings_of(tmp_path / "sweep", runs).answer)
    assert choice is not None and choice.label == "layer 1"


def test_the_scored_split_decides_nothing(tmp_path: Path) -> None:
    changed: list[Run] = [(layer, 0.9 - spearman, ms, there) for layer, spearman, ms, there in RUNS]
    choices = [chosen_run(findings_of(tmp_path / str(n), runs).answer) for n, runs in enumerate((RUNS, changed))]
    assert choices[0] is not None and choices[1] is not None and choices[0].label == choices[1].label


@pytest.mark.parametrize(
    ("runs", "select"),
    [
        ([("1", 0.4, 2.0, None), ("3", 0.3, 2.0, None)], {}),
        (RUNS, {"max_latency_ms": 1}),
        (RUNS, {"by": "probe/fit_score"}),
    ],
)
def test_nothing_is_chosen(tmp_path: Path, runs: list[Run], select: dict[str, Any]) -> None:
    findings = findings_of(tmp_path / "sweep", runs, select)
    assert chosen_run(findings.answer) is None


def test_what_is_beyond_a_limit_or_not_measured_is_counted(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    findings_of(root, RUNS, {"max_latency_ms": 6})
    path = root / "1" / "result.json"
    record = json.loads(path.read_text())
    del record["metrics"]["latency/mean_ms"]
    path.write_text(json.dumps(record))
    answer = find(SweepRecord.load(root), sweep_results(root), result_folders(root)).answer
    choice = chosen_run(answer)
    assert choice is not None and (choice.excluded, choice.unknown) == (1, 1)
    assert "Beyond these limits: 1 run." in choice.text and "left out: 1 run." in choice.text


def test_a_choice_makes_the_warning_of_optimism_superfluous(tmp_path: Path) -> None:
    for number, runs in enumerate((RUNS, [(layer, spearman, ms, None) for layer, spearman, ms, _ in RUNS])):
        statements = findings_of(tmp_path / str(number), runs).answer.sections[0].statements
        warned = any("optimistic" in one.text for one in statements if isinstance(one, Caution))
        assert warned != any(isinstance(one, Chosen) for one in statements)
