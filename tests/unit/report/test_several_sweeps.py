"""Several sweeps on one page, from made-up records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.report.several_sweeps import read_sweeps, short_names
from tests.made_up_sweeps import SweepWriter
from tests.unit.report.test_compare import rescore

PAIRS = 60


def write(root: Path, noises: tuple[float, ...], model: str = "tiny", pairs: int = PAIRS, **tags: str) -> Path:
    """Layers 1, 3, ... whose scores have noise of these sizes; with less noise a higher Spearman."""
    sweep = SweepWriter(root, pairs=pairs)
    for number, noise in enumerate(noises):
        folder = sweep.run(1 / (1 + noise), 2.0, number, tags, layer=str(2 * number + 1), model=model)
        if pairs == PAIRS:
            rescore(folder, noise)
    sweep.baseline()
    return root


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "a", (3, 2), "rwkv6"),
        write(tmp_path / "b", (0.2, 3), "rwkv7"),
        write(tmp_path / "c", (3, 3), "rwkv5", pairs=40),
    ]


def test_runs_are_named_after_their_sweep_and_baselines_stand_once(three: list[Path]) -> None:
    sweeps = read_sweeps(three)
    results = sweeps.findings.records.results
    assert [run.params["sweep"] for run in results if run.kind == "model"] == ["a", "a", "b", "b", "c", "c"]
    assert len({run.name for run in results if run.kind == "model"}) == 6
    # a and b scored the same pairs.
    assert len([run for run in results if run.kind == "baseline"]) == 2
    assert sweeps.record.name == "a, b and c" and "sweep" in sweeps.findings.keys
    assert len(set(sweeps.findings.labels.values())) == 6 + 1


def test_the_answer_says_what_differs_and_by_how_much(three: list[Path]) -> None:
    (_, sentences), *others = read_sweeps(three).findings.answer.bullets()
    assert sentences[0] == "The sweeps differ in model (rwkv6, rwkv7, rwkv5)."
    best, *rest = sentences[1:]
    assert best.startswith("b: the highest is ") and "0.833 [0.783, 0.883] on all" in best
    assert best.endswith("the highest of all sweeps, chosen after looking.")
    by_sweep = {sentence[0]: sentence for sentence in rest}
    delta = re.search(r"below that of b \((\S+) \[(\S+), (\S+)\] on the same pairs\)\.$", by_sweep["a"])
    assert delta is not None and float(delta[2]) < float(delta[1]) < float(delta[3]) < 0
    assert by_sweep["c"].endswith("other pairs than those of b, so the two cannot be compared.")
    assert others


def test_sweeps_within_noise_are_called_that(tmp_path: Path) -> None:
    roots = [write(tmp_path / name, (1,), commit=name) for name in ("one", "two")]
    (_, sentences), *_ = read_sweeps(roots).findings.answer.bullets()
    assert sentences[0] == "The sweeps differ in commit (one, two)."
    assert sum("within noise of that of" in sentence for sentence in sentences) == 1


def test_the_page_has_all_runs_and_nothing_is_written_into_the_folders(
    three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path for root in three for path in root.rglob("*")}
    assert run_verb("report", [*map(str, three)]) == 0
    assert {path for root in three for path in root.rglob("*")} == before
    page = (tmp_path / "sweeps.html").read_text()
    data = json.loads(re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page, re.DOTALL)[1])  # type: ignore[index]
    assert [run["params"]["sweep"] for run in data["runs"] if run["kind"] == "model"] == ["a", "a", "b", "b", "c", "c"]
    printed = capsys.readouterr().out
    assert "The sweeps differ in model" in printed and printed.endswith("page     sweeps.html\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "a"], "a is given twice: valid is each sweep once"),
        (["a", "./a"], "a is given twice"),
        (["a", "nowhere"], "nowhere is not the folder of a sweep: it holds no sweep.json"),
        (["a", "b", "--out", "no/folder/page.html"], "--out=no/folder/page.html cannot be written: valid is"),
        (["a", "b", "--out", "c"], "--out=c cannot be written: valid is the path of a file"),
        (["a", "--out", "page.html"], "--out=page.html is for several folders"),
    ],
)
def test_wrong_arguments(
    three: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_verb("report", arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not list(tmp_path.glob("*.html"))


def test_names_are_as_long_as_needed() -> None:
    assert short_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert short_names([Path("/x/one/1"), Path("/x/two/1"), Path("/x/two/2")]) == ["one/1", "two/1", "two/2"]
