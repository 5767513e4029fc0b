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


LEGEND_ENTRY = """
const plot = window.plots.get(arguments[0]), [left, top] = plot.origin();
let at = null;
const walk = (items, x, y) => {
  for (const item of items) {
    if (item.role === "legend-label" && item.items.some((text) => text.text === arguments[1])) {
      const text = item.items.find((text) => text.text === arguments[1]);
      at = [x + (text.bounds.x1 + text.bounds.x2) / 2, y + (text.bounds.y1 + text.bounds.y2) / 2];
    } else if (item.items) {
      const own = item.marktype ? [0, 0] : [item.x || 0, item.y || 0];
      walk(item.items, x + own[0], y + own[1]);
    }
  }
};
walk([plot.scenegraph().root], left + plot.padding().left, top + plot.padding().top);
return at;
"""
"""Where a chart's legend has a word, in pixels of the chart."""


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
        "Heat map",
        "Latency of one pair",
        "Overhead over final-layer inference",
        "Parity with fp32",
        "Pairs on which runs disagree most",
        "Environment and configuration",
    ]


def drawn(view: Any, charts: int) -> Any:
    """Waits until so many charts are drawn: Vega draws after the script that asks for it."""
    from selenium.webdriver.support.wait import WebDriverWait

    view.whole()
    WebDriverWait(view.browser, 20).until(lambda _: view.js("return window.plots.size") == charts)
    view.browser.execute_async_script(
        "Promise.all([...window.plots.values()].map((plot) => plot.runAsync()))"
        ".then(() => requestAnimationFrame(arguments[0]))"
    )
    return view


def test_every_chart_is_drawn_and_has_a_name(shown: Any, page: Path) -> None:
    view = drawn(shown(page), 7)
    sizes = view.js(
        "return [...document.querySelectorAll('figure canvas')].map(canvas =>"
        " [canvas.closest('.chart').getAttribute('aria-label'), canvas.clientWidth, canvas.clientHeight])"
    )
    assert all(name and width > 200 and height > 50 for name, width, height in sizes)
    # Something is on each: more than one colour.
    colours = view.js(
        "return [...document.querySelectorAll('figure canvas')].map(canvas => new Set(new Uint32Array("
        "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size)"
    )
    assert min(colours) > 5
    assert view.errors() == []


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


def test_the_bundle_holds_what_vl_convert_holds(tmp_path: Path) -> None:
    from rwkv_sweep.report.page.bundle import BUNDLE, write_bundle

    assert write_bundle(tmp_path / "vega.js").read_bytes() == BUNDLE.read_bytes()


ROWS_DRAWN = "return window.plots.get('layers').data('rows').length"


def click_canvas(view: Any, chart: str, x: float, y: float) -> None:
    """Click at a place of a chart, in its own pixels."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = view.one(f"#{chart} canvas")
    view.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
    size = canvas.size
    ActionChains(view.browser).move_to_element_with_offset(
        canvas, x - size["width"] / 2, y - size["height"] / 2
    ).click().perform()


def test_filters_move_table_and_charts(shown: Any, page: Path) -> None:
    from selenium.webdriver.support.ui import Select
    from selenium.webdriver.support.wait import WebDriverWait

    view = shown(page)
    drawn(view, 7)
    before = view.js(ROWS_DRAWN)
    Select(view.one("select[aria-label=precision]")).select_by_visible_text("bf16")
    assert view.texts("#count") == ["5 of 9 runs"]
    assert set(view.texts(f"{ROWS} td:nth-child(2)")) == {"bf16", ""}
    WebDriverWait(view.browser, 5).until(lambda _: view.js(ROWS_DRAWN) == before / 2)
    view.one("#filter").send_keys("layer=3")
    WebDriverWait(view.browser, 5).until(lambda _: view.texts("#count") == ["1 of 9 runs"])
    view.one("#clear").click()
    assert view.texts("#count") == ["9 of 9 runs"]
    WebDriverWait(view.browser, 5).until(lambda _: view.js(ROWS_DRAWN) == before)


def test_picking_in_the_legend_narrows_the_table(shown: Any, page: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    view = drawn(shown(page), 7)
    x, y = view.js(LEGEND_ENTRY, "layers", "bf16")
    click_canvas(view, "layers", x, y)
    WebDriverWait(view.browser, 5).until(lambda _: view.texts("#count") != ["9 of 9 runs"])
    assert set(view.texts(f"{ROWS} td:nth-child(2)")) == {"bf16", ""}
    view.one("#clear").click()
    assert view.texts("#count") == ["9 of 9 runs"]


def test_brushing_narrows_the_table(shown: Any, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.wait import WebDriverWait

    view = drawn(shown(page), 7)
    canvas = view.one("#layers canvas")
    view.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
    half = canvas.size["width"] / 2
    # From the left edge of the chart to its middle: the first of three layers, and perhaps the second.
    chain = ActionChains(view.browser).move_to_element_with_offset(canvas, 60 - half, -120).click_and_hold()
    chain.move_by_offset(80, 180).release().perform()
    WebDriverWait(view.browser, 5).until(lambda _: view.texts("#count") != ["9 of 9 runs"])
    assert set(view.texts(FIRST)) == {"1"}
    view.one("#clear").click()
    assert view.texts("#count") == ["9 of 9 runs"]


def test_a_filter_that_leaves_nothing(shown: Any, page: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    view = shown(page)
    view.one("#filter").send_keys("nothing has this")
    WebDriverWait(view.browser, 5).until(lambda _: view.texts("#count") == ["0 of 9 runs"])
    assert "No run here has these figures." in view.texts("#layers .empty")
    assert view.errors() == []


def test_arrows_walk_through_a_chart(shown: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    view = shown(page)
    drawn(view, 7).js("document.querySelector('#layers .chart').focus()")
    texts_ = set()
    for _ in range(6):
        view.browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        view.browser.execute_async_script("setTimeout(arguments[0], 0)")
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
    assert len(view.all("figure .chart")) == (5 if kind == "one" else 0)


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
    assert path.stat().st_size < 3.5e6
    assert view.js("return document.querySelectorAll('*').length") < 40_000
    assert view.whole().errors() == []


def test_saved_files(shown: Any, page: Path, tmp_path: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    view = shown(page)
    view.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    drawn(view, 7)
    for button in view.all("#runs .tools button") + view.all("#layers .tools button"):
        button.click()
    wanted = {"runs.csv", "runs.md", "layers.svg", "layers.png"}
    WebDriverWait(view.browser, 15).until(lambda _: {path.name for path in tmp_path.iterdir()} == wanted)
    rows = list(csv.DictReader((tmp_path / "runs.csv").open(encoding="utf-8")))
    assert [row["tokens/s"] for row in rows[:2]] == ["30000", "23077"]
    assert rows[0]["vs word overlap"] == "-0.100"
    assert "<svg" in (tmp_path / "layers.svg").read_text(encoding="utf-8")
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
    drawn(view, 2)


def test_printing_loses_no_column(shown: Any, page: Path) -> None:
    view = drawn(shown(page), 7)
    heads = view.texts("#runs-table thead th")
    view.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    view.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    right = view.js(
        "return [...document.querySelectorAll('#runs-table thead th')].map(head => head.getBoundingClientRect().right)"
    )
    assert len(right) == len(heads) and max(right) <= 720
    rule = "return getComputedStyle(document.getElementById('layers')).breakInside"
    assert view.js(rule) == "avoid", "no chart is parted from its title"
    printed = view.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    view.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(printed) > 20_000
