"""Two sweeps side by side, from made-up records whose differences are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import Result, write_latency, write_pairs
from rwkv_sweep.report.comparison.differences import SweepComparison, compare_runs, conclusion, verdicts
from rwkv_sweep.report.comparison.matching import Change, load_sweep, match
from tests.made_up_sweeps import SweepWriter

PAIRS = 60


def write(
    root: Path, factor: float = 1.0, commit: str = "abc", baseline: float = 0.1, pairs: int = PAIRS
) -> SweepWriter:
    """Layers 1 and 3 in fp32 and bf16; `factor`: of all times."""
    sweep = SweepWriter(root, pairs=pairs)
    for seed, (layer, precision) in enumerate([("1", "fp32"), ("1", "bf16"), ("3", "fp32"), ("3", "bf16")]):
        sweep.run(0.3, (seed + 2) * factor, seed, {"commit": commit}, layer=layer, precision=precision)
    sweep.baseline(ms=baseline, seed=9)
    return sweep


def rescore(folder: Path, noise: float) -> None:
    """Scores of a run whose noise is of this size: less noise, a higher Spearman."""
    labels = [row % 2 for row in range(PAIRS)]
    random = np.random.default_rng(5)
    scores = [label + noise * value for label, value in zip(labels, random.normal(size=PAIRS), strict=True)]
    rows = zip(labels, scores, strict=True)
    write_pairs(folder, [("all", row, float(label), float(score)) for row, (label, score) in enumerate(rows)])


def compared(a: SweepWriter, b: SweepWriter) -> SweepComparison:
    one, other = load_sweep("A", a.root), load_sweep("B", b.root)
    return compare_runs(one, other, match(one, other), 500, 0)


def test_a_sweep_with_itself(tmp_path: Path) -> None:
    sweep = write(tmp_path / "a")
    comparison = compared(sweep, sweep)
    assert len(comparison.runs) == 4
    for run in comparison.runs:
        assert run.quality is not None and (run.quality.value, run.quality.lo, run.quality.hi) == (0, 0, 0)
        assert run.latency is not None and (run.latency.value, run.latency.lo, run.latency.hi) == (1, 1, 1)
        assert run.adjusted == 1 and verdicts(run) == []
    assert comparison.reach == (1, 1)


def test_better_and_worse_by_more_than_noise(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    for sweep, sizes in ((a, (3, 3, 0.2, 1)), (b, (0.2, 3, 3, 1))):
        for number, noise in enumerate(sizes):
            rescore(sweep.root / str(number), noise)
    comparison = compared(a, b)
    assert [verdicts(run) for run in comparison.runs] == [["better"], [], ["worse"], []]
    first = comparison.runs[0].quality
    assert first is not None and first.lo > 0 and comparison.runs[0].matched.name == "layer=1, precision=fp32"
    assert "Quality: of 4 runs 1 better and 1 worse by more than noise (Holm, 0.05)." in conclusion(comparison)


def test_slower_by_more_than_the_machine(tmp_path: Path) -> None:
    comparison = compared(write(tmp_path / "a"), write(tmp_path / "b", factor=1.5))
    assert [verdicts(run) for run in comparison.runs] == [["slower"]] * 4
    ratio = comparison.runs[0].latency
    assert ratio is not None and ratio.value == pytest.approx(1.5)


@pytest.mark.parametrize("baseline", [0.16, 0.1 / 1.6])
@pytest.mark.parametrize("factor", [1.5, 1 / 1.5])
def test_a_machine_that_changed_its_pace_explains_it(tmp_path: Path, factor: float, baseline: float) -> None:
    """The baselines' times changed by as much; a machine may also have been slow at another time than they ran."""
    comparison = compared(write(tmp_path / "a"), write(tmp_path / "b", factor=factor, baseline=baseline))
    assert [verdicts(run) for run in comparison.runs] == [[]] * 4
    assert comparison.reach is not None and comparison.reach[1] == pytest.approx(1.6)
    assert "a factor of up to 1.60" in conclusion(comparison)[-1]


def test_without_a_control(tmp_path: Path) -> None:
    sweeps = [SweepWriter(tmp_path / name) for name in "ab"]
    for sweep, ms in zip(sweeps, (5.0, 8.0), strict=True):
        sweep.run(0.3, ms)
    comparison = compared(*sweeps)
    assert comparison.reach is None and verdicts(comparison.runs[0]) == ["slower"]
    assert (
        conclusion(comparison)[-1]
        == "Without baselines timed in both, nothing shows how much of that is due to the machine."
    )


def test_what_changed_between_them(tmp_path: Path) -> None:
    sweeps = [SweepWriter(tmp_path / name) for name in "ab"]
    for sweep, pooling in zip(sweeps, ("mean", "last"), strict=True):
        for layer in ("1", "3"):
            sweep.run(0.3, 5, tags={"commit": pooling[0]}, layer=layer, pooling=pooling, **{"store.path": pooling})
    sweeps[0].run(0.3, 5, layer="5", pooling="mean", tags={"commit": "m"})
    matching = match(load_sweep("A", sweeps[0].root), load_sweep("B", sweeps[1].root))
    assert matching.params == [Change("pooling", "mean", "last")]
    assert matching.tags == [Change("commit", "m", "l")]
    assert [pair.name for pair in matching.matched] == ["layer=1", "layer=3"]
    assert (matching.only_a, matching.only_b) == (["layer=5"], [])


def test_other_pairs_are_not_compared(tmp_path: Path) -> None:
    comparison = compared(write(tmp_path / "a"), write(tmp_path / "b", pairs=40))
    assert {run.no_quality for run in comparison.runs} == {"other pairs"}
    assert conclusion(comparison)[0] == "Quality: nothing could be compared."


def test_times_of_other_counts(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b", factor=1.5)
    write_latency(b.root / "0", [3.0] * 25)
    write_latency(b.root / "1", [3.0] * 4)
    first, second, *_ = compared(a, b).runs
    assert first.latency is not None and first.latency.value == pytest.approx(1.5, rel=0.05)
    assert second.latency is None and second.no_latency == "fewer than 5 pairs timed"


def test_a_failed_run_says_so(tmp_path: Path) -> None:
    a, b = SweepWriter(tmp_path / "a"), SweepWriter(tmp_path / "b")
    for layer in ("1", "3"):
        a.run(0.3, 5, layer=layer)
    b.run(0.3, 5, layer="1")
    b.failed("no memory", layer="3")
    assert [run.no_quality for run in compared(a, b).runs] == ["", "B failed"]


def test_nothing_in_common(tmp_path: Path) -> None:
    a, b = SweepWriter(tmp_path / "a"), SweepWriter(tmp_path / "b")
    for layer, other in (("1", "2"), ("3", "4")):
        a.run(0.3, 5, layer=layer)
        b.run(0.3, 5, layer=other)
    with pytest.raises(UserError, match=r"stands beside one of B=.*: layer is 1 3 in A, 2 4 in B"):
        match(load_sweep("A", a.root), load_sweep("B", b.root))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a", commit="old"), write(tmp_path / "b", factor=2, commit="new")
    assert run_verb("compare", [str(a.root), str(b.root), "--resamples", "200"]) == 0
    output = capsys.readouterr().out
    assert "changed  ran on commit: old -> new" in output
    assert output.count("slower") == 5, "each run, and the sentence"
    assert "Speed: of 4 runs 0 faster and 4 slower by more than noise." in output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere", "nowhere"], "error: A=nowhere is not a folder: valid is the folder of a sweep or of a run\n"),
        (
            ["{a}", "{empty}"],
            "error: B={empty} contains no result.json of a run: valid is the folder of a sweep or of a run\n",
        ),
        (["{a}", "{a}", "--resamples", "0"], "error: --resamples=0 is too few: valid is 1 or more\n"),
        (["{a}", "{a}", "--html", "{empty}"], "error: --html={empty} cannot be written: Is a directory\n"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str) -> None:
    places = {"a": str(write(tmp_path / "a").root), "empty": str(tmp_path / "empty")}
    (tmp_path / "empty").mkdir()
    assert run_verb("compare", [argument.format(**places) for argument in given]) == 2
    assert capsys.readouterr().err == message.format(**places)


def test_a_damaged_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write(tmp_path / "a")
    assert Result.load(sweep.root / "0").status == "FINISHED"
    (sweep.root / "0" / "pairs.csv").write_text("split,row,label,score\nall,0,one,2\n", encoding="utf-8")
    assert run_verb("compare", [str(sweep.root), str(sweep.root)]) == 2
    assert "0/pairs.csv is damaged" in capsys.readouterr().err
