"""MLflow's own UI on a real sweep: what a person sees of the runs there, sorts, picks and compares."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.search_path import LIMIT_S

pytest.importorskip("selenium", reason="selenium is not installed: make test-browser")

from tests.browser.mlflow_ui import MlflowPages, mlflow_ui

SWEPT = ("layer=1,final", "precision=fp32,bf16")
VIEW = "/experiments/1/runs?viewStateShareKey=results&workflowType=machine_learning"
RUNS = {f"precision={precision},layer={layer}" for precision in ("fp32", "bf16") for layer in ("1", "final")}
BASELINES = {"word_vectors", "word_overlap"}
QUICK = ('dataset.splits=["test[:60]"]', "bootstrap=50", "measure.latency_pairs=5", "measure.throughput_seconds=0.1")
SWEEP = " ".join([*SWEPT, *QUICK])
SPEARMAN, LATENCY = "metrics.`quality/spearman`", "metrics.`latency/mean_ms`"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs of the embedded model and two baselines, from the command line."""
    folder = tmp_path_factory.mktemp("ui")
    command = [sys.executable, "-m", "rwkv_sweep", "-m", *SWEPT, *QUICK]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(sweep: Path) -> Iterator[str]:
    with mlflow_ui(sweep) as base:
        yield base


@pytest.fixture
def pages(browser: Any, address: str) -> MlflowPages:
    return MlflowPages(browser, address)


def runs_of(pages: MlflowPages) -> dict[str, str]:
    """Ids of all runs by name, from the database behind the UI."""
    from mlflow.tracking import MlflowClient

    actual = MlflowClient(pages.base).search_runs(["1"])
    return {run.info.run_name: run.info.run_id for run in actual}


def names(pages: MlflowPages) -> list[str]:
    return pages.column("attributes.`Run Name`")


def open_view(pages: MlflowPages) -> None:
    pages.open(VIEW)
    pages.wait(lambda: set(names(pages)) >= RUNS, "the runs by name")


def test_runs_with_their_names_and_columns(pages: MlflowPages) -> None:
    open_view(pages)
    assert set(names(pages)) == {SWEEP, *RUNS, *BASELINES}
    columns = ["params.`layer`", "params.`precision`", SPEARMAN, LATENCY, "metrics.`memory/weights_mib`"]
    assert set(columns) <= set(pages.column_ids())
    assert sorted(pages.column("params.`layer`"))[-4:] == ["1", "1", "final", "final"]
    assert "Sentence embeddings from chosen blocks" in pages.text()
    assert "Training runs" in pages.text() or "Runs" in pages.text()
    assert pages.errors() == []


def test_sorted_by_a_metric(pages: MlflowPages) -> None:
    open_view(pages)
    spearman = [float(text) for text in pages.column(SPEARMAN) if text not in ("", "-")]
    assert len(spearman) == 6 and spearman == sorted(spearman, reverse=True)

    def click(key: str) -> None:
        header = next(cell for cell in pages.all(".ag-header-cell") if cell.get_attribute("col-id") == key)
        header.find_element("css selector", "[role=columnheader]").click()

    def latencies() -> list[float]:
        return [float(text) for text in pages.column(LATENCY) if text not in ("", "-")]

    click(LATENCY)
    actual = pages.wait(
        lambda: latencies() in (sorted(latencies()), sorted(latencies())[::-1]) and latencies(), "order"
    )
    click(LATENCY)
    pages.wait(lambda: latencies() == actual[::-1], "the other way round")
    assert pages.errors() == []


def test_two_runs_compared(pages: MlflowPages) -> None:
    open_view(pages)
    places = [place for place, name in enumerate(names(pages)) if name in RUNS][:2]
    for place in places:
        pages.js("arguments[0].click()", pages.all(f".ag-row[row-index='{place}'] .ag-selection-checkbox input")[0])
    compare = pages.wait(lambda: [b for b in pages.all("button") if b.text.strip() == "Compare"], "the button Compare")
    compare[0].click()
    pages.wait(lambda: "Comparing 2 Runs from 1 Experiment" in pages.text(), "the comparison")
    pages.wait(lambda: pages.all(".js-plotly-plot .parcoords, .js-plotly-plot canvas"), "parallel coordinates")
    next(tab for tab in pages.all("[role=tab]") if tab.text == "Scatter Plot").click()
    # Drawn by WebGL: its points are no elements.
    panel = "[role=tabpanel][data-state=active]"
    pages.wait(lambda: pages.all(f"{panel} .js-plotly-plot canvas"), "a scatter plot")
    assert pages.all(panel)[0].text.startswith("X-axis:")
    assert pages.errors() == []


def test_charts_of_the_view(pages: MlflowPages) -> None:
    pages.open(f"{VIEW}&compareRunsMode=CHART")
    pages.wait(lambda: "Parallel Coordinates" in pages.text(), "parallel coordinates")
    pages.wait(lambda: len(pages.all(".scatterlayer .point")) >= 4, "a point a run")
    pages.wait(lambda: not pages.all("[transform*=NaN]"), "plots whose numbers are numbers")
    assert pages.errors() == []


def test_page_of_a_run(pages: MlflowPages) -> None:
    run = runs_of(pages)["precision=bf16,layer=final"]
    pages.open(f"/experiments/1/runs/{run}?workflowType=machine_learning")
    pages.wait(lambda: "Spearman" in pages.text() and "tokens/s" in pages.text(), "the description")
    text = pages.text()
    assert "tiny, bf16, layer final, pooling mean, on embedded[test[:60]]." in text
    assert "embedded[test[:60]] (" in text, "the data set"
    pages.wait(lambda: "tiny-bf16" in pages.text(), "the model")
    assert SWEEP in pages.text(), "the parent"
    assert pages.errors() == []


def test_page_of_the_sweep(pages: MlflowPages) -> None:
    pages.open(f"/experiments/1/runs/{runs_of(pages)[SWEEP]}?workflowType=machine_learning")

    def heads() -> str:
        # MLflow shows the start of a long description, and the rest after a click.
        return " ".join(head.get_attribute("textContent") for head in pages.all("table th"))

    pages.wait(lambda: "Spearman" in heads() and "ms/pair" in heads(), "the table in the description")
    pages.wait(lambda: len(pages.all("table td")) >= 40, "its cells")
    assert pages.errors() == []
