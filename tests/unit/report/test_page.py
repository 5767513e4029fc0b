"""The page of a sweep as a file: what is in it, what never is, and what bad records do to it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.records.results import LATENCY_FILE, PAGE_FILE, PAIRS_FILE, Result
from rwkv_sweep.report.common.disagreement import largest_disagreements
from rwkv_sweep.report.common.labels import varied_keys
from rwkv_sweep.report.page.bundle import BUNDLE, heading
from rwkv_sweep.report.page.html import SCRIPTS_FOLDER, page
from rwkv_sweep.report.sweep_page import write_page
from tests.made_up_sweeps import SweepWriter, write_pairs_file


@pytest.fixture
def sweep(tmp_path: Path) -> SweepWriter:
    made = SweepWriter(tmp_path / "s", jobs=4)
    for seed, layer in enumerate(("1", "3")):
        made.run(0.3, 5.0, seed=seed, layer=layer)
    made.baseline()
    return made


def data_of(path: Path) -> dict[str, Any]:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    assert block is not None
    return json.loads(block[1])


def test_nothing_is_fetched(sweep: SweepWriter) -> None:
    text = write_page(sweep.root).read_text("utf-8")
    # Vega's own script names namespaces and sites, and asks for none: the page's policy allows no request at all.
    without_names = text.replace(BUNDLE.read_text("utf-8"), "").replace('"http://www.w3.org/2000/svg"', "")
    without_names = re.sub(r'"\$schema":"[^"]*"', "", without_names)
    assert not re.search(r"https?://|@import|<link(?! rel=\"icon\" href=\"data:,\")|<script src|<img", without_names)
    assert "default-src 'none'" in text


def test_every_script_is_used_and_filled_in(sweep: SweepWriter) -> None:
    from rwkv_sweep.report.comparison import page as page_module
    from rwkv_sweep.report.page.html import SCRIPTS

    assert {path.stem for path in SCRIPTS_FOLDER.glob("*.js")} == {*SCRIPTS, *page_module.SCRIPTS, BUNDLE.stem}
    assert "<!--" not in write_page(sweep.root).read_text("utf-8")


def test_the_bundle_is_that_of_the_installed_vl_convert() -> None:
    assert BUNDLE.read_text("utf-8").startswith(heading())


def test_text_cannot_become_markup() -> None:
    evil = "</script><script>alert(1)</script><!--data-->"
    text = page(evil, {"text": evil}, ["dom"])
    assert text.count("<script>") == 2 and "alert(1)</script>" not in text.replace("&lt;/script&gt;", "")
    assert json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["text"] == evil  # type: ignore[index]


def test_runs_baselines_and_what_is_missing(sweep: SweepWriter) -> None:
    data = data_of(write_page(sweep.root))
    assert [run["name"] for run in data["runs"]] == [
        "layer=1,precision=fp32,number=0",
        "layer=3,precision=fp32,number=1",
        "word_overlap",
    ]
    assert data["missing"] == 2
    assert data["keys"] == ["layer"]
    assert data["answer"]["sections"][0]["sentences"][0].startswith("The pairs cannot distinguish the 2 runs.")
    (latency,) = [chart for chart in data["charts"] if chart["id"] == "latency"]
    assert [row["run"] for row in latency["views"][0]["rows"]] == [0, 1]
    assert data["family"]["count"] == 2


def test_only_finite_numbers(sweep: SweepWriter) -> None:
    folder = sweep.root / "0"
    result = Result.load(folder)
    replace(result, metrics={**result.metrics, "throughput/tokens_per_s": float("nan")}).save(folder)
    metrics = data_of(write_page(sweep.root))["runs"][0]["metrics"]
    assert "throughput/tokens_per_s" not in metrics and metrics["quality/spearman"] == 0.3


@pytest.mark.parametrize("name", [LATENCY_FILE, PAIRS_FILE])
def test_damaged_samples_are_reported(sweep: SweepWriter, name: str) -> None:
    (sweep.root / "1" / name).write_text("split,row,label,score\nall,zero,1,1\n", encoding="utf-8")
    data = data_of(write_page(sweep.root))
    assert len(data["runs"]) == 3
    assert any(name in note and "is damaged" in note for note in data["notes"])


def test_pairs_with_the_largest_disagreement_have_their_texts(sweep: SweepWriter) -> None:
    (entry,) = data_of(write_page(sweep.root))["pairs"]
    assert entry["runs"] == [0, 1] and entry["pairs"] == 12 and entry["absent"] is None
    spreads = [item["spread"] for item in entry["items"]]
    assert spreads == sorted(spreads, reverse=True)
    for item in entry["items"]:
        assert item["texts"] == [f"Sentence {item['row']} <b>bold</b> & </script>", f"Another, number {item['row']}"]


def test_texts_of_other_pairs_are_never_shown(sweep: SweepWriter) -> None:
    write_pairs_file(sweep.root / "pairs.tsv", 14)
    (entry,) = data_of(write_page(sweep.root))["pairs"]
    assert "they changed since" in entry["absent"]
    assert {item["texts"] for item in entry["items"]} == {None}


@pytest.mark.parametrize("gone", ["pairs.tsv", "0/.hydra/config.yaml"])
def test_texts_that_are_gone(sweep: SweepWriter, gone: str) -> None:
    (sweep.root / gone).unlink()
    (entry,) = data_of(write_page(sweep.root))["pairs"]
    assert gone in entry["absent"]
    assert len(entry["items"]) == 12


def test_a_relative_path_starts_where_the_command_did(sweep: SweepWriter) -> None:
    for number in "01":
        config = sweep.root / number / ".hydra" / "config.yaml"
        config.write_text(config.read_text("utf-8").replace(f"{sweep.root}/", ""), encoding="utf-8")
    (entry,) = data_of(write_page(sweep.root))["pairs"]
    assert entry["absent"] is None


def test_largest_disagreements_against_the_definition() -> None:
    scores_RP = np.random.default_rng(0).normal(size=(5, 30)).round(1)
    chosen, spread, ranks_RP = largest_disagreements(scores_RP, 4)
    naive = [[(rankdata(row)[pair] - 1) / 29 for pair in range(30)] for row in scores_RP]
    assert np.allclose(ranks_RP, naive)
    spreads = {pair: float(np.std([row[pair] for row in naive])) for pair in range(30)}
    assert sorted(spreads.values(), reverse=True)[:4] == pytest.approx(spread.tolist())
    assert [spreads[int(pair)] for pair in chosen] == pytest.approx(spread.tolist())


def test_runs_that_agree_on_ranks_do_not_disagree() -> None:
    scores_P = np.arange(6.0)
    _, spread, _ = largest_disagreements(np.stack([scores_P, 100 * scores_P - 7]), 6)
    assert spread.tolist() == [0.0] * 6


def test_varied_keys_leave_out_what_follows_from_others() -> None:
    def run(**params: Any) -> Result:
        return Result("r", "model", "FINISHED", params)

    runs = [
        run(layer="1", depth=2, precision="fp32", **{"precision.base": "float32", "seed": 0}),
        run(layer="3", depth=4, precision="bf16", **{"precision.base": "bfloat16", "seed": 1}),
    ]
    assert varied_keys(runs, ["seed"]) == ["layer", "precision", "seed"]
    assert varied_keys([], []) == []


def test_command_writes_again(sweep: SweepWriter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("report", [str(sweep.root)]) == 0
    first = [Path(line).relative_to(sweep.root).as_posix() for line in capsys.readouterr().out.splitlines()]
    figures = [
        f"report/{name}.{kind}" for name in ("spearman_by_layer", "quality_against_speed") for kind in ("svg", "png")
    ]
    assert first == [PAGE_FILE, "summary.csv", "summary.md", *figures]
    assert all((sweep.root / path).stat().st_size for path in first)
    sweep.run(0.4, 4.0, layer="5")
    assert run_verb("report", [str(sweep.root)]) == 0
    assert len(data_of(sweep.root / PAGE_FILE)["runs"]) == 4


def test_command_on_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("report", [str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is not the folder of a sweep: it holds no sweep.json\n"
