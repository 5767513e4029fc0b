"""The page of a sweep in a real browser: what a person sees, clicks and types."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.report.sweep_page import write_page
from tests.made_up_sweeps import SweepWriter

LAYERS, PRECISIONS = ("1", "3", "final"), ("fp32", "bf16")
ROWS = "#runs-table tbody tr"
FIRST = f"{ROWS} th"


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six finished runs, one failed, two baselines, with an answer."""
    sweep = SweepWriter(tmp_path_factory.mktemp("sweep") / "s", report="aggregation_overhead", jobs=7)
    for number, layer in enumerate(LAYERS):
        for precision in PRECISIONS:
            ms = (3.0, 6.0, 10.0)[number] * (1.3 if precision == "bf16" else 1)
            sweep.run(0.1 + 0.1 * number, ms, seed=number, layer=layer, precision=precision)
    sweep.failed("not enough <memory>", layer="3", precision="int8")
    sweep.baseline()
    sweep.baseline("word_vectors", 0.25)
    return write_page(sweep.root)


def test_no_errors_and_no_network(shown: Any, page: Path) -> None:
    view = shown(page)
    assert view.errors() == []
    assert (
        view.js("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
    )
    assert view.texts("h2") == [
        "Answer",
        "What did not finish",
        "Runs",
        "Spearman by layer",
        "Quality against speed",
        "Quality against memory",
        "Layer \u00d7 precision",
        "Latency of one pair",
        "Overhead over final-layer inference",
        "Parity with fp32",
        "Pairs on which runs disagree most",
        "Environment and configuration",
    ]


def test_every_chart_has_points_and_a_name(shown: Any, page: Path) -> None:
    view = shown(page).whole()
    drawn = view.js(
        "return [...document.querySelectorAll('figure svg[role=img]')].map(svg =>"
        " [svg.getAttribute('aria-label'), svg.querySelectorAll('path, rect').length])"
    )
    assert len(drawn) == 7
    assert all(name and marks >= 3 for name, marks in drawn)
    assert (
        view.js("return [...document.querySelectorAll('svg')].some(svg => /NaN|Infinity/.test(svg.outerHTML))") is False
    )


def test_sorting(shown: Any, page: Path) -> None:
    view = shown(page)
    heads = view.texts("#runs-table thead th")
    speed = view.all("#runs-table thead button")[heads.index("ms/pair")]
    assert view.texts(FIRST)[:3] == ["1", "1", "3"]
    speed.click()
    sort = "return [...document.querySelectorAll('#runs-table thead th')].map(head => head.getAttribute('aria-sort'))"
    assert view.js(sort)[heads.index("ms/pair")] == "ascending"
    assert view.texts(FIRST)[:2] == ["word_overlap", "word_vectors"]
    assert view.texts(FIRST)[-1] == "3", "the failed run, without a time, comes last"
    speed.click()
    assert view.js(sort).count("descending") == 1
    assert view.texts(FIRST)[:2] == ["final", "final"]
    assert view.texts(FIRST)[-1] == "3"


def test_sorting_by_keyboard_alone(shown: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    view = shown(page)
    body = view.one("body")
    for _ in range(40):
        body.send_keys(Keys.TAB)
        body = view.browser.switch_to.active_element
        if body.text.startswith("Spearman [95 %]"):
            break
    else:
        pytest.fail("the header is out of the keyboard's reach")
    assert view.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is visible"
    body.send_keys(Keys.ENTER)
    assert view.texts(FIRST)[0] == "final"


def test_filters_move_table_and_charts(shown: Any, page: Path) -> None:
    from selenium.webdriver.support.ui import Select
    from selenium.webdriver.support.wait import WebDriverWait

    view = shown(page)
    marks = "return document.querySelectorAll('#layers svg path').length"
    before = view.js(marks)
    Select(view.one("select[aria-label=precision]")).select_by_visible_text("bf16")
    assert view.texts("#count") == ["5 of 9 runs"]
    assert set(view.texts(f"{ROWS} td:nth-child(2)")) == {"bf16", ""}
    assert view.js(marks) < before
    view.one("#filter").send_keys("layer=3")
    WebDriverWait(view.browser, 5).until(lambda _: view.texts("#count") == ["1 of 9 runs"])
    view.one("#clear").click()
    assert view.texts("#count") == ["9 of 9 runs"]
    assert view.js(marks) == before


def test_a_filter_that_leaves_nothing(shown: Any, page: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    view = shown(page)
    view.one("#filter").send_keys("nothing has this")
    WebDriverWait(view.browser, 5).until(lambda _: view.texts("#count") == ["0 of 9 runs"])
    assert "No run here has a Spearman." in view.texts("#layers .empty")
    assert view.errors() == []


def test_arrows_walk_through_a_chart(shown: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    view = shown(page)
    view.js("document.querySelector('#layers svg').focus()")
    texts_ = set()
    for _ in range(6):
        view.browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        texts_.add(view.texts("#tip")[0])
    assert len(texts_) == 6 and all("Spearman" in text for text in texts_)
    assert view.js("return document.getElementById('tip').hidden") is False


def test_texts_of_pairs_are_text(shown: Any, page: Path) -> None:
    view = shown(page)
    quotes = view.whole().texts("#pairs blockquote")
    assert len(quotes) == 12
    assert any("<b>bold</b> & </script>" in quote for quote in quotes)
    assert view.js("return document.querySelectorAll('#pairs b').length") == 6, "the labels alone are bold"


def test_failures_with_reasons(shown: Any, page: Path) -> None:
    texts_ = shown(page).texts("#failures tbody tr")
    assert len(texts_) == 1 and "not enough <memory>" in texts_[0] and "OutOfMemory" in texts_[0]


def test_dark(shown: Any, page: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    ink = "return getComputedStyle(document.body).color.match(/\\d+/g).map(Number)"
    light, dark = shown(page), None
    assert min(light.js(ground)) > 200 and max(light.js(ink)) < 80
    dark = shown(page, dark=True)
    assert max(dark.js(ground)) < 60 and min(dark.js(ink)) > 200


def test_a_phone_scrolls_one_way(shown: Any, page: Path) -> None:
    view = shown(page, width=390).whole()
    assert view.js("return document.documentElement.scrollWidth") <= 390
    assert view.errors() == []


@pytest.mark.parametrize("kind", ["empty", "one", "all_failed"])
def test_few_runs(shown: Any, tmp_path: Path, kind: str) -> None:
    sweep = SweepWriter(tmp_path / "s", jobs=3 if kind == "empty" else None)
    if kind == "one":
        sweep.run(0.3, 5.0)
    if kind == "all_failed":
        for layer in LAYERS:
            sweep.failed("the reason", layer=layer)
    view = shown(write_page(sweep.root)).whole()
    assert view.errors() == []
    heading = {"empty": "A sweep without runs", "one": "One run", "all_failed": "3 runs: 3 layers"}[kind]
    assert view.texts("h1")[0].startswith(heading)
    assert len(view.all(ROWS)) == {"empty": 0, "one": 1, "all_failed": 3}[kind]
    assert len(view.all("#failures")) == (kind != "one")
    assert len(view.all("figure svg[role=img]")) == (5 if kind == "one" else 0)


def test_five_hundred_runs(shown: Any, tmp_path: Path, record_property: Any) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    sweep = SweepWriter(tmp_path / "s", pairs=60)
    for number in range(500):
        precision = ("fp32", "bf16", "fp16", "int8")[number % 4]
        sweep.run(
            0.1 + number / 2000,
            3 + number / 100,
            seed=number,
            layer=str(number // 4 % 25),
            precision=precision,
            pooling=("mean", "last", "max", "idf", "state")[number // 100],
        )
    path = write_page(sweep.root)
    view = shown(path)
    WebDriverWait(view.browser, 20).until(lambda _: len(view.all(ROWS)) == 500)
    assert view.errors() == []
    loaded = view.js("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    record_property("open_ms", loaded)
    print(f"500 runs: {path.stat().st_size / 1e6:.1f} MB, open after {loaded:.0f} ms")
    # What decides how long it takes, whatever the machine: the bytes to read and the elements to lay out.
    assert path.stat().st_size < 2e6
    assert view.js("return document.querySelectorAll('*').length") < 40_000
    assert view.whole().errors() == []


def test_saved_files(shown: Any, page: Path, tmp_path: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    view = shown(page)
    view.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for button in view.all("#runs .tools button") + view.all("#layers .tools button"):
        button.click()
    wanted = {"runs.csv", "runs.md", "layers.svg", "layers.png"}
    WebDriverWait(view.browser, 15).until(lambda _: {path.name for path in tmp_path.iterdir()} == wanted)
    rows = list(csv.DictReader((tmp_path / "runs.csv").open(encoding="utf-8")))
    assert [row["tokens/s"] for row in rows[:2]] == ["30000", "23077"]
    assert rows[0]["vs word overlap"] == "-0.100"
    assert "var(" not in (tmp_path / "layers.svg").read_text(encoding="utf-8")
    assert (tmp_path / "layers.png").stat().st_size > 5000


def test_comparison(shown: Any, tmp_path: Path) -> None:
    from rwkv_sweep.cli.verbs import run_verb

    for name, factor in (("a", 1.0), ("b", 3.0)):
        sweep = SweepWriter(tmp_path / name)
        for seed, layer in enumerate(LAYERS):
            sweep.run(0.2, 5.0 * factor, seed=seed, layer=layer, tags={"commit": name})
        sweep.baseline()
    assert run_verb("compare", [str(tmp_path / "a"), str(tmp_path / "b"), "--html", str(tmp_path / "c.html")]) == 0
    view = shown(tmp_path / "c.html").whole()
    assert view.errors() == []
    assert view.texts("#runs tbody .pill") == ["slower"] * 3
    assert view.texts("#changed tbody tr") == ["commitab"]
    heads = view.texts("#runs thead th")
    view.all("#runs thead button")[heads.index("run")].click()
    assert view.texts("#runs tbody th") == ["layer=1", "layer=3", "layer=final"]
    assert len(view.all("figure svg[role=img]")) == 2
