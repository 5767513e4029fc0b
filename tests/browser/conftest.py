"""A headless Chromium, driven by selenium; without either, these tests are skipped and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


BINARIES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make test-browser")
    if not any(map(shutil.which, BINARIES)) or shutil.which("chromedriver") is None:
        pytest.skip("no Chromium, or no chromedriver, on the PATH")
    started = start_browser(str(tmp_path_factory.mktemp("chromium")))
    yield started
    started.quit()


def start_browser(profile: str) -> Any:
    """A headless Chromium; profile: an empty folder that it may fill."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BINARIES)))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


class Shown:
    """A page in the browser."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.browser, self.path = browser, path

    def open(self, width: int = 1280, dark: bool = False) -> Shown:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # Without motion: a click lands where the element is, not where it was before a smooth scroll.
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.browser.get_log("browser")
        self.browser.get(self.path.as_uri())
        return self

    def whole(self) -> Shown:
        """Also what is drawn only once it comes near."""
        self.js("window.dispatchEvent(new Event('beforeprint'))")
        return self

    def js(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """Text content of all that match; also of what is scrolled out of sight."""
        return self.js(
            "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent.trim())", selector
        )

    def errors(self) -> list[str]:
        """What the console says is wrong, a refused request of the network included."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] != "INFO"]


@pytest.fixture
def shown(browser: Any) -> Any:
    return lambda path, **how: Shown(browser, path).open(**how)
