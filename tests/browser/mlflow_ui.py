"""MLflow's own UI on the database of a sweep, served as `make ui` serves it, and ways through its pages."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.support.wait import WebDriverWait

SECONDS = 120.0
"""After which a page counts as not coming; twice that for the server. Far more than either takes, for busy machines."""
NOISE = (
    # MLflow 3.17's own, on an experiment without any runs too. A server without accounts knows no current user.
    "/ajax-api/2.0/mlflow/users/current - Failed to load resource: the server responded with a status of 404",
    "AG Grid: since v27.1, `getRowNodeId` is deprecated and has been replaced by `getRowId`.",
    "AG Grid: since v27.1, `immutableData` is deprecated.",
    "AG Grid: tried to call sizeColumnsToFit() but the grid is coming back with zero width",
    '"ResizeObserver loop completed with undelivered notifications."',
    # A plot that is drawn before its frame has a size, and again when it has.
    '<g> attribute transform: Expected number, "translate(NaN',
    '<path> attribute d: Expected number, "M',
    # Chromium's own, of plots drawn by WebGL where there is no GPU.
    "Automatic fallback to software WebGL has been deprecated.",
    "GPU stall due to ReadPixels",
)
_NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
localStorage.setItem("mlflow.telemetry.info.alert.dismissed_v1", "true");
"""


@contextlib.contextmanager
def mlflow_ui(folder: Path) -> Iterator[str]:
    """Serve `folder/mlruns` on a free port while it lasts; yields the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///mlruns/mlflow.db", "--default-artifact-root", "mlruns/artifacts"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "ui.log").open("w") as log:
        # A session of its own: the server starts workers, which end with it only if they are signalled too.
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(server, f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


def _wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + 2 * SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"mlflow ui does not answer at {url}; its output is in ui.log")


class MlflowPages:
    """The UI at `base` in a browser, in light, without the assistant's panel."""

    def __init__(self, browser: Any, base: str, width: int = 1800, height: int = 1000) -> None:
        self.browser, self.base = browser, base
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        light = [{"name": "prefers-color-scheme", "value": "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": light})
        browser.get(base)
        browser.execute_script(_NO_ASSISTANT)
        browser.get_log("browser")

    def open(self, path: str) -> None:
        """Open a page by what stands after the # in its address, from the start."""
        self.browser.get("about:blank")
        self.browser.get(f"{self.base}/#{path}")

    def wait(self, what: Callable[[], Any], message: str) -> Any:
        """Wait until `what` gives something true, and return that."""
        ignored = [StaleElementReferenceException]
        waiting = WebDriverWait(self.browser, SECONDS, ignored_exceptions=ignored)
        return waiting.until(lambda _: what(), f"never came: {message}")

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def text(self) -> str:
        """All text of the page."""
        return str(self.js("return document.body.innerText"))

    def column(self, key: str) -> list[str]:
        """Last line of each cell of a column of the table of runs, from the top; key: as MLflow writes it."""
        return self.js(
            "return [...document.querySelectorAll('.ag-center-cols-container [role=row], .ag-pinned-left-cols-container"
            " [role=row]')].map(row => [Number(row.getAttribute('row-index')), [...row.querySelectorAll('[col-id]')]"
            ".find(cell => cell.getAttribute('col-id') === arguments[0])]).filter(([, cell]) => cell)"
            ".sort((a, b) => a[0] - b[0])"
            ".map(([, cell]) => cell.innerText.trim().split(String.fromCharCode(10)).pop())",
            key,
        )

    def column_ids(self) -> list[str]:
        """Keys of the columns that the table of runs shows."""
        return self.js(
            "return [...document.querySelectorAll('.ag-header-cell')].map(cell => cell.getAttribute('col-id'))"
        )

    def errors(self) -> list[str]:
        """What the console says is wrong, other than what MLflow's pages always say."""
        entries = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] != "INFO"]
        return [entry for entry in entries if not any(known in entry for known in NOISE)]
