"""The answers of the two presets over made-up sweeps: each statement recomputed from the raw records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from rwkv_sweep.records.results import UNSUPPORTED
from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report import write_report
from rwkv_sweep.report.aggregation.statements import BestAggregation, Control, EarlyExit, Gain, Memory, Overheads
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.common.statements import Plain
from rwkv_sweep.report.common.text import escaped
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.quantization.recommendation import Fronts, Recommended
from rwkv_sweep.report.quantization.statements import Losses, OverBase, Sizes, Unsupported, Verdict
from rwkv_sweep.report.summary import print_summary
from rwkv_sweep.report.sweep_page import write_page
from tests.made_up_sweeps import SweepWriter, around
from tests.recomputed import Raw, column, family, holm, models, raw_records

UNTRACKED = {"enabled": False, "uri": "", "artifacts": "", "experiment": ""}
REGIMES = {"in packed batches": ("over_fp32", "batch"), "for single pairs": ("pair_over_fp32", "latency")}
NAMES = ("precision.base", "precision.quantization", "precision.blocks", "precision.modules")


def precisions(**speeds: tuple[float, float, float]) -> Callable[[SweepWriter], None]:
    """A sweep of fp32, bf16 and others: speed in batches, for pairs, and change of Spearman, of each."""

    def fill(sweep: SweepWriter) -> None:
        for seed, (name, (batches, pairs, change)) in enumerate({"fp32": (1.0, 1.0, 0.0), **speeds}.items()):
            base = "float32" if name == "fp32" else "bfloat16"
            kind = "none" if name in ("fp32", "bf16") else name
            more = {"memory/weights_without_embedding_mib": 40.0 if name == "fp32" else 20.0 if name == "bf16" else 7.0}
            if name != "fp32":
                more |= around("speedup/over_fp32", batches, 0.04) | around("speedup/pair_over_fp32", pairs, 0.04)
                more |= around("parity/spearman_delta", change, 0.004)
                more |= {"parity/spearman_delta_p": 0.001 if abs(change) > 0.004 else 0.6}
            dotted = dict(zip(NAMES, (base, kind, "all", "all"), strict=True))
            sweep.run(0.4 + change, 5.0, seed, compared=False, precision=name, dotted=dotted, more=more)
        sweep.failed("a CPU has no fp8", status=UNSUPPORTED, precision="fp8")

    return fill


def layers(**ratios: float) -> Callable[[SweepWriter], None]:
    """A sweep of the final layer, layer 5 and aggregations of all layers: time over the final layer's, of each."""

    def fill(sweep: SweepWriter) -> None:
        for seed, (name, ratio) in enumerate({"final": 1.0, "5": 0.5, **ratios}.items()):
            single = name in ("final", "5")
            more = {"overhead/memory_mib": 0.1 * seed, "overhead/naive_memory_mib": 40.0 + seed}
            for kind in ("latency", "batch"):
                more |= around(f"overhead/{kind}_ratio", ratio + 0.01 * (kind == "batch"), 0.02)
                more |= around(f"overhead/naive_{kind}_ratio", ratio + 0.2, 0.02)
            if name != "final":
                more |= {**around("final/delta", 0.01 * seed, 0.03), "final/delta_p": 0.5 if seed % 2 else 0.0001}
            how = "none" if single else name
            more["select/spearman"] = 0.4 + 0.02 * (name in ("5", "max")) + 0.01 * (name == "mean")
            layer, split = name if single else "all", {"select.split": "train"}
            sweep.run(0.3 + 0.01 * seed, 5.0, seed, layer=layer, aggregation=how, more=more, dotted=split)

    return fill


SWEEPS: dict[str, tuple[str, Callable[[SweepWriter], None]]] = {
    "quantizing is faster": ("quantization", precisions(bf16=(1.5, 1.2, 0.0), nf4=(2.0, 1.5, 0.001))),
    "quantizing is slower": ("quantization", precisions(bf16=(1.5, 1.2, 0.0), nf4=(0.6, 0.5, -0.001))),
    "batches faster, pairs slower": ("quantization", precisions(bf16=(1.5, 0.9, 0.0), nf4=(1.8, 0.8, 0.0))),
    "a tie, with a loss": ("quantization", precisions(bf16=(1.5, 1.2, 0.0), nf4=(1.51, 1.21, -0.05))),
    "aggregating is slower": ("aggregation_overhead", layers(mean=1.2, max=1.1)),
    "no overhead to be measured": ("aggregation_overhead", layers(mean=1.01, max=1.0)),
    "aggregating is faster": ("aggregation_overhead", layers(mean=0.8)),
}


def run_of(records: list[Raw], key: str, value: str) -> Raw:
    return next(record for record in models(records) if record["params"][key] == value)


def bounds(record: Raw, key: str) -> tuple[float, float, float]:
    values = [record["metrics"][f"{key}{suffix}"] for suffix in ("", "_lo", "_hi")]
    return values[0], values[1], values[2]


def check_verdict(verdict: Verdict, records: list[Raw]) -> None:
    for fastest in verdict.fastest:
        key = f"speedup/{REGIMES[fastest.where][0]}"
        speeds = {run["params"]["precision"]: run["metrics"].get(key, 1.0) for run in models(records)}
        quickest = max(speeds, key=speeds.__getitem__)
        if fastest.ratio is None:
            assert quickest == "fp32" or bounds(run_of(records, "precision", quickest), key)[1] <= 1
            continue
        assert fastest.labels[0] == quickest
        value, lo, hi = bounds(run_of(records, "precision", quickest), key)
        assert (fastest.ratio.value, fastest.ratio.lo, fastest.ratio.hi) == pytest.approx((value, lo, hi))
        assert lo > 1 and f"{quickest}" in verdict.text and f"{value:.2f} times the speed of fp32" in verdict.text
        lost = {loss.label for loss in fastest.cost}
        assert lost == {name for name in fastest.labels if _changes(records)[name]}


def check_recommended(taken: Recommended, records: list[Raw]) -> None:
    key, mib = f"speedup/{REGIMES[taken.where][0]}", "memory/weights_without_embedding_mib"
    runs = {run["params"]["precision"]: run for run in models(records)}
    lossy = {
        name
        for name, is_shown in _changes(records).items()
        if (delta := runs[name]["metrics"]["parity/spearman_delta"]) < -0.02 or (is_shown and delta < 0)
    }
    speeds = {name: bounds(run, key) if name != "fp32" else (1.0, 1.0, 1.0) for name, run in runs.items()}
    own, metrics = speeds[taken.label], runs[taken.label]["metrics"]
    assert taken.label not in lossy
    for name, (_, lo, hi) in speeds.items():
        if name not in lossy:
            assert lo <= own[2], f"{name} is faster beyond doubt"
            smaller = runs[name]["metrics"][mib] < metrics[mib]
            assert not (smaller and lo > own[1] and hi > own[2]), f"{name} is as fast and smaller"
        elif lo > own[2]:
            assert name in taken.lossy
    assert taken.size == pytest.approx(metrics[mib] / runs["fp32"]["metrics"][mib])
    logged = {f"answer/{taken.regime}/front": len(taken.front), f"answer/{taken.regime}/bytes_share": taken.size}
    if taken.label != "fp32":
        for suffix, speed, delta in zip(
            ("", "_lo", "_hi"), own, bounds(runs[taken.label], "parity/spearman_delta"), strict=True
        ):
            logged[f"answer/{taken.regime}/speed_over_fp32{suffix}"] = pytest.approx(speed)
            logged[f"answer/{taken.regime}/spearman_delta{suffix}"] = delta
        assert f"take {taken.label}: {own[0]:.2f} times the speed of fp32" in taken.text
    assert taken.answer_metrics == logged
    assert taken.answer_tags[f"answer.{taken.regime}.precision"] == taken.label
    for name in runs:
        worse_everywhere = any(
            other != name
            and speeds[other][1] > speeds[name][2]
            and runs[other]["metrics"][mib] < runs[name]["metrics"][mib]
            and runs[other]["metrics"].get("parity/spearman_delta_lo", 0)
            > runs[name]["metrics"].get("parity/spearman_delta_hi", 0)
            for other in runs
        )
        assert not (worse_everywhere and name in taken.front)
    assert taken.label in taken.front


def check_fronts(fronts: Fronts, records: list[Raw]) -> None:
    assert [where for where, _ in fronts.of] == list(REGIMES)
    for where, labels in fronts.of:
        assert where in fronts.text and all(label in fronts.text for label in labels)


def _changes(records: list[Raw]) -> dict[str, bool]:
    """Whether each precision changes Spearman by more than noise, after Holm's correction."""
    p_values = {
        run["params"]["precision"]: run["metrics"]["parity/spearman_delta_p"]
        for run in models(records)
        if "parity/spearman_delta_p" in run["metrics"]
    }
    return {name: p <= 0.05 for name, p in holm(p_values).items()}


def check_over_base(over_base: OverBase, records: list[Raw]) -> None:
    key = f"speedup/{REGIMES[over_base.where][0]}"
    (own, own_lo, own_hi), (base, base_lo, base_hi) = (
        bounds(run_of(records, "precision", name), key) for name in ("nf4", "bf16")
    )
    slower, faster = own_hi / base_lo < 1, own_lo / base_hi > 1
    (listed,) = [*over_base.faster, *over_base.slower, *over_base.alike]
    assert listed[:2] == ("nf4", "bf16") and listed[2] == pytest.approx(own / base)
    # The corners of both intervals are wider than their quotient's: what they leave out is beyond noise for certain.
    assert not slower or listed in over_base.slower
    assert not faster or listed in over_base.faster


def check_losses(losses: Losses, records: list[Raw]) -> None:
    changes = _changes(records)
    assert {loss.label: loss.is_shown for loss in losses.losses} == changes
    for loss in losses.losses:
        assert loss.delta.value == run_of(records, "precision", loss.label)["metrics"]["parity/spearman_delta"]
    assert ("by more than noise" in losses.text) == any(changes.values())


def check_sizes(sizes: Sizes, records: list[Raw]) -> None:
    mib = {r["params"]["precision"]: r["metrics"]["memory/weights_without_embedding_mib"] for r in models(records)}
    assert (sizes.whole, sizes.smallest) == (mib["bf16"], mib["nf4"]) and sizes.labels == ["nf4"]
    assert f"{mib['nf4'] / mib['bf16']:.0%}" in sizes.text


def check_overheads(overheads: Overheads, records: list[Raw]) -> None:
    final = run_of(records, "layer", "final")
    for regime in overheads.regimes:
        key = f"overhead/{REGIMES[regime.where][1]}_ratio"
        _, low, high = bounds(final, key)
        ratios = {r["params"]["aggregation"]: bounds(r, key) for r in models(records) if r["params"]["layer"] == "all"}
        assert {label.split()[0]: (ratio.value, ratio.lo, ratio.hi) for label, ratio in regime.ratios} == ratios
        slower = {name for name, (value, lo, _) in ratios.items() if lo > 1 and value > high}
        assert {label.split()[0] for label, _ in regime.slower} == slower
        if not slower:
            bound = (max(1.0, *(hi for *_, hi in ratios.values())) - 1) * 100
            assert "none was measured" in regime.phrase
            assert f"at most {bound:.0f} %" in regime.phrase or f"at most {bound:.1f} %" in regime.phrase
        assert regime.control is not None and (regime.control.lo, regime.control.hi) == (low, high)


def check_control(control: Control, records: list[Raw]) -> None:
    final = run_of(records, "layer", "final")
    for where, ratio in control.ratios:
        assert (ratio.value, ratio.lo, ratio.hi) == bounds(final, f"overhead/{REGIMES[where][1]}_ratio")


def check_memory(memory: Memory, records: list[Raw]) -> None:
    several = [record["metrics"] for record in models(records) if record["params"]["layer"] == "all"]
    assert memory.streamed == max(metrics["overhead/memory_mib"] for metrics in several)
    assert memory.kept == max(metrics["overhead/naive_memory_mib"] for metrics in several)
    slowest = max(metrics[f"overhead/naive_{kind}_ratio"] for metrics in several for kind in ("latency", "batch"))
    assert memory.kept_ratio is not None and memory.kept_ratio[2].value == slowest


def check_best_aggregation(statement: BestAggregation, records: list[Raw]) -> None:
    several = [record for record in models(records) if record["params"]["layer"] == "all"]
    best = max(several, key=lambda record: record["metrics"]["quality/spearman"])
    adjusted = holm(family(records))
    assert statement.label.split()[0] == best["params"]["aggregation"] and statement.among == len(several)
    assert statement.adjusted == pytest.approx(adjusted[best["name"], "final"]) and statement.family == len(adjusted)
    assert statement.survives == (adjusted[best["name"], "final"] <= 0.05)
    assert statement.delta is not None and statement.delta.value == best["metrics"]["final/delta"]


def check_early_exit(statement: EarlyExit, records: list[Raw]) -> None:
    early = run_of(records, "layer", "5")
    ((label, depth, ratio),) = statement.ends
    assert (label, depth, ratio.value) == ("layer 5", 6, early["metrics"]["overhead/latency_ratio"])
    assert statement.best is not None and statement.best[1].value == early["metrics"]["final/delta"]
    assert statement.survives == (holm(family(records))[early["name"], "final"] <= 0.05)


def check_gain(statement: Gain, records: list[Raw]) -> None:
    """The highest on the split to choose on of either kind, compared where they were not chosen."""
    kinds = {True: [], False: []}  # type: dict[bool, list[Raw]]
    for record in records:
        if record["kind"] == "model":
            kinds[record["params"]["aggregation"] == "none"].append(record)
    single, several = (max(kinds[alone], key=lambda one: one["metrics"]["select/spearman"]) for alone in (True, False))
    assert statement.single == f"layer {single['params']['layer']}"
    assert statement.aggregation == f"{several['params']['aggregation']} of all"
    labels = column(single, statement.scored, "label")
    own, other = (spearmanr(column(one, statement.scored, "score"), labels).statistic for one in (several, single))
    assert statement.paired and statement.difference.value == pytest.approx(own - other)
    assert statement.difference.lo < statement.difference.value < statement.difference.hi
    for where, ratio, of_single in statement.costs:
        key = "overhead/batch_ratio" if "batches" in where else "overhead/latency_ratio"
        assert (ratio.value, of_single.value) == (several["metrics"][key], single["metrics"][key])
    assert len(statement.costs) == 2 and statement.text.startswith("Chosen on train, the best aggregation is ")


CHECKS: dict[type, Callable[[Any, list[Raw]], None]] = {
    Recommended: check_recommended,
    Fronts: check_fronts,
    Verdict: check_verdict,
    OverBase: check_over_base,
    Losses: check_losses,
    Sizes: check_sizes,
    Overheads: check_overheads,
    Control: check_control,
    Memory: check_memory,
    BestAggregation: check_best_aggregation,
    Gain: check_gain,
    EarlyExit: check_early_exit,
}


def made(case: str, root: Path) -> tuple[SweepWriter, Findings]:
    report, fill = SWEEPS[case]
    sweep = SweepWriter(root, pairs=200, report=report)
    fill(sweep)
    return sweep, find(SweepRecord.load(root), sweep_results(root), result_folders(root))


@pytest.mark.parametrize("case", SWEEPS)
def test_each_statement_is_what_the_records_say(case: str, tmp_path: Path) -> None:
    sweep, findings = made(case, tmp_path / "s")
    (section,) = findings.answer.sections
    records = raw_records(sweep.root)
    for statement in section.statements:
        if not isinstance(statement, (Plain, Unsupported)):
            CHECKS[type(statement)](statement, records)
        assert not re.search(r"\([^)]*\(|\[", statement.text), "no nested brackets"
    checked = {type(statement) for statement in section.statements}
    if "quant" in SWEEPS[case][0]:
        first = [type(statement) for statement in section.statements[:3]]
        assert first == [Recommended, Recommended, Fronts], "one for each regime, before anything else"
    assert checked >= (
        {Recommended, Fronts, Verdict, OverBase, Losses, Sizes}
        if "quant" in SWEEPS[case][0]
        else {Overheads, Control, Memory}
    )


@pytest.mark.parametrize("case", SWEEPS)
def test_terminal_page_and_report_say_the_same(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, findings = made(case, tmp_path / "s")
    sentences = [sentence for _, bullets in findings.answer.bullets() for sentence in bullets]
    page = re.search(r'id="data">(.*?)</script>', write_page(sweep.root).read_text("utf-8"), re.S)
    assert page is not None
    assert json.loads(page[1])["answer"]["sections"] == [{"name": "", "sentences": sentences}]
    report = write_report(SWEEPS[case][0], findings.records.results, sweep.root)[0].read_text("utf-8")
    record = replace(SweepRecord.load(sweep.root), tracking=UNTRACKED)
    print_summary(findings.records.results, record, sweep.root, findings.answer)
    shown = capsys.readouterr().out
    for sentence in sentences:
        assert f"- {escaped(sentence)}\n" in report and f"- {sentence}\n" in shown
