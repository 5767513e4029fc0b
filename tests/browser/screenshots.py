"""Take the pictures of the documentation again: docs/images/report.png and docs/images/mlflow.png.

    python -m tests.browser.screenshots FOLDER

FOLDER is where a sweep was started: it holds multirun/ and mlruns/. The latest sweep there is shown. Needs Chromium,
chromedriver and selenium (`make test-browser` installs the last). Pictures are reduced to 256 colours.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser.conftest import Shown, start_browser
from tests.browser.mlflow_ui import MlflowPages, mlflow_ui

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTH = 1300
COLOURS = 256


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where the folder holds no sweep."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser.screenshots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    pages = sorted(folder.glob("multirun/*/*/report.html"))
    if not pages or not (folder / "mlruns" / "mlflow.db").exists():
        print(f"error: {folder} holds no multirun/*/*/report.html with mlruns/mlflow.db beside it", file=sys.stderr)
        return 2
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        browser = start_browser(profile)
        try:
            take_report(browser, pages[-1].resolve())
            with mlflow_ui(folder) as base:
                take_mlflow(browser, base)
        finally:
            browser.quit()
    return 0


def take_report(browser: Any, page: Path) -> None:
    """The top of the report's page: its best runs, the table, the first chart."""
    view = Shown(browser, page).open(width=WIDTH).whole()
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    bottom = "return document.querySelector('#layers').getBoundingClientRect().bottom + scrollY"
    # In a window of that height nothing is drawn anew when the picture is taken.
    for _ in range(2):
        size = {"width": WIDTH, "height": round(view.js(bottom)) + 12, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(0.5)
    _save(browser, "report.png")


def take_mlflow(browser: Any, base: str) -> None:
    """MLflow's runs with the columns and charts of the shared view."""
    pages = MlflowPages(browser, base, 1750, 1000)
    pages.open("/experiments/1/runs?viewStateShareKey=results&compareRunsMode=CHART&workflowType=machine_learning")
    pages.wait(lambda: len(pages.all(".scatterlayer .point")) >= 2, "the charts")
    time.sleep(8)  # parallel coordinates come last
    pages.js("document.querySelectorAll('.modebar-container').forEach(bar => bar.remove())")
    _save(browser, "mlflow.png")


def _save(browser: Any, name: str) -> None:
    """The window as it is: a larger or scaled picture would have the page laid out, and some charts drawn, anew."""
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS) if picture.width != WIDTH else picture
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)
    print(f"{IMAGES / name}: {WIDTH} x {height}, {(IMAGES / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
