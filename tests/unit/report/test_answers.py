"""Each statement of an answer is what the raw records say, and is shown alike wherever it is shown."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rwkv_sweep.records.results import UNDEFINED
from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.common.text import escaped
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.plain_sweep.statements import Baselines, Best, Caution, Cost, OtherSplit
from rwkv_sweep.report.summary import print_summary
from rwkv_sweep.report.sweep_page import write_page
from rwkv_sweep.report.tables import write_summary_table
from tests.made_up_sweeps import SweepWriter, around
from tests.recomputed import CHECKS, Checked

UNTRACKED = {"enabled": False, "uri": "", "artifacts": "", "experiment": ""}


def one_clear(sweep: SweepWriter) -> None:
    for seed, (layer, spearman, ms) in enumerate((("1", 0.1, 2.0), ("3", 0.9, 5.0), ("final", 0.2, 10.0))):
        sweep.run(spearman, ms, seed=seed, layer=layer)
    sweep.baseline()
    sweep.baseline("word_vectors", spearman=0.01)


def some_alike(sweep: SweepWriter) -> None:
    for seed, (layer, spearman, ms) in enumerate((("1", 0.4, 2.0), ("3", 0.41, 5.0), ("final", -0.5, 10.0))):
        sweep.run(spearman, ms, seed=seed, layer=layer)
    sweep.baseline()


def below_a_baseline(sweep: SweepWriter) -> None:
    for seed, (layer, spearman, ms) in enumerate((("1", 0.15, 2.0), ("3", 0.12, 5.0), ("final", 0.1, 10.0))):
        sweep.run(spearman, ms, seed=seed, layer=layer)
    sweep.baseline()


def equally_fast(sweep: SweepWriter) -> None:
    for seed, (layer, spearman, ms) in enumerate((("1", 0.3, 5.0), ("3", 0.31, 5.01), ("final", 0.3, 10.0))):
        sweep.run(spearman, ms, seed=seed, layer=layer)


def one_after_another(sweep: SweepWriter) -> None:
    for seed, (layer, spearman, ms) in enumerate((("1", 0.3, 2.0), ("final", 0.31, 10.0))):
        sweep.run(spearman, ms, seed=seed, layer=layer, compared=False)


def one_run(sweep: SweepWriter) -> None:
    sweep.run(0.3, 5.0)


def no_signal(sweep: SweepWriter) -> None:
    for seed, layer in enumerate(("1", "3", "final")):
        sweep.run(0.01 * seed, 5.0, seed=seed, layer=layer)
    sweep.failed("out of memory", layer="5")


SWEEPS = {
    "one clear winner": (one_clear, 400, ("all",)),
    "some alike": (some_alike, 400, ("all",)),
    "below a baseline": (below_a_baseline, 400, ("all",)),
    "equally fast": (equally_fast, 400, ("all",)),
    "timed one after another": (one_after_another, 400, ("all",)),
    "few pairs": (some_alike, 12, ("all",)),
    "one run": (one_run, 400, ("all",)),
    "no signal, one failed": (no_signal, 400, ("all",)),
    "two splits": (one_clear, 800, ("all[:400]", "all[400:]")),
    "two splits, some alike": (some_alike, 600, ("all[:200]", "all[200:]")),
}


def findings_of(sweep: SweepWriter) -> Findings:
    return find(SweepRecord.load(sweep.root), sweep_results(sweep.root), result_folders(sweep.root))


@pytest.mark.parametrize("case", SWEEPS)
def test_each_statement_is_what_the_records_say(case: str, tmp_path: Path) -> None:
    fill, pairs, splits = SWEEPS[case]
    sweep = SweepWriter(tmp_path / "s", pairs=pairs, splits=splits)
    fill(sweep)
    findings = findings_of(sweep)
    checked = Checked(sweep.root, findings, splits[0])
    (section,) = findings.answer.sections
    assert isinstance(section.statements[0], Best), "the verdict first"
    assert len(section.statements) <= 5
    kinds = set()
    for statement in section.statements:
        CHECKS[type(statement)](checked, statement)
        kinds.add(type(statement))
        plain = statement.text.replace(splits[0], "").replace(splits[-1], "")
        assert not re.search(r"\([^)]*\(|\[", plain), "no nested brackets"
    assert (OtherSplit in kinds) == (len(splits) > 1)
    assert any(isinstance(statement, Caution) and statement.pairs < 100 for statement in section.statements) == (
        pairs == 12
    )


@pytest.mark.parametrize("case", SWEEPS)
def test_terminal_table_and_page_say_the_same(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill, pairs, splits = SWEEPS[case]
    sweep = SweepWriter(tmp_path / "s", pairs=pairs, splits=splits)
    fill(sweep)
    record, findings = SweepRecord.load(sweep.root), findings_of(sweep)
    sentences = [sentence for _, bullets in findings.answer.bullets() for sentence in bullets]
    page = re.search(r'id="data">(.*?)</script>', write_page(sweep.root).read_text("utf-8"), re.S)
    assert page is not None
    data = json.loads(page[1])
    assert data["answer"]["sections"] == [{"name": "", "sentences": sentences}]
    table = write_summary_table(findings, record, sweep.root).read_text("utf-8")
    assert all(f"- {escaped(sentence)}\n" in table for sentence in sentences)
    print_summary(findings.records.results, replace(record, tracking=UNTRACKED), sweep.root, findings.answer)
    shown = capsys.readouterr().out
    assert all(f"- {sentence}\n" in shown for sentence in sentences)
    for split in splits if len(splits) > 1 else ():
        heading = f"Spearman {split} [95 %]"
        assert (
            heading in shown
            and escaped(heading) in table
            and split in [split_entry["name"] for split_entry in data["splits"]]
        )


def test_nothing_finished(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s")
    sweep.failed("the reason", layer="1")
    sweep.failed("the data", status=UNDEFINED, layer="3")
    assert findings_of(sweep).answer.bullets() == [("", ["No run finished, so there is nothing to answer with."])]
    assert findings_of(sweep).cards == []


def test_an_undefined_baseline_is_no_reference(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s", pairs=400)
    folder = sweep.run(0.3, 5.0, layer="1")
    sweep.run(0.5, 6.0, layer="3", seed=2)
    for path in (folder, sweep.root / "1"):
        record = json.loads((path / "result.json").read_text())
        record["metrics"] = {key: value for key, value in record["metrics"].items() if not key.startswith("baseline/")}
        (path / "result.json").write_text(json.dumps(record))
    base = sweep.baseline()
    record = json.loads((base / "result.json").read_text())
    record |= {
        "status": UNDEFINED,
        "metrics": {},
        "error": {"kind": "UndefinedError", "message": "all scores are equal"},
    }
    (base / "result.json").write_text(json.dumps(record))
    findings = findings_of(sweep)
    assert not any(
        isinstance(statement, Baselines) for section in findings.answer.sections for statement in section.statements
    )
    assert "best baseline" not in [card.name for card in findings.cards]


def test_a_run_that_is_not_compared_may_be_above_the_baseline(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s", pairs=400)
    below_a_baseline(sweep)
    whitened = {"postprocess": "whiten", "postprocess.fit": "transductive"}
    sweep.run(0.45, 5.0, seed=9, layer="3", dotted=whitened)
    (section,) = findings_of(sweep).answer.sections
    text = " ".join(statement.text for statement in section.statements)
    assert "None of the 3 compared runs reaches the Spearman of word overlap" in text and "No run reaches" not in text


def test_cards_call_a_tie_a_tie(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s", pairs=400)
    equally_fast(sweep)
    cards = {card.name: card for card in findings_of(sweep).cards}
    assert cards["weights"].of == "all 3 runs alike"
    assert cards["highest Spearman, all"].of.endswith("2 of 2 others within noise")
    quickest = cards["fastest for single pairs"]
    assert quickest.value == "2.00 times" and quickest.of.endswith("; 1 of 2 others within noise")


def test_cards_compare_no_speeds_of_different_times(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s", pairs=400)
    one_after_another(sweep)
    cards = {card.name: card for card in findings_of(sweep).cards}
    assert cards["time of a pair"].value == "2.00 to 10.00 ms"
    assert cards["throughput"].of == "not compared: they were timed one after another"


def test_beside_a_common_reference_runs_are_ranked(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "s", pairs=400)
    for seed, (layer, ratio) in enumerate((("1", 2.0), ("3", 2.04), ("final", 1.0))):
        more = {**around("throughput/ratio", ratio, 0.001), **around("latency/ratio", 1 / ratio, 0.001)}
        tags = {"speed.reference": "final, fp32", "model_fingerprint": "m"}
        sweep.run(0.3, 5.0, seed=seed, layer=layer, compared=False, tags=tags, more=more)
    (section,) = findings_of(sweep).answer.sections
    (cost,) = [statement for statement in section.statements if isinstance(statement, Cost)]
    for regime in cost.regimes:
        assert regime.labels == ["layer 3", "layer 1"], "2 % apart between jobs is noise"
        assert math.isclose(regime.ratio.value, 2.04, rel_tol=1e-3) if regime.ratio else regime.best in regime.labels
