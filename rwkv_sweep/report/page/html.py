"""One self-contained page: markup, style, scripts and data in one file that asks nothing of any network."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from rwkv_sweep.report.page.bundle import BUNDLE
from rwkv_sweep.utils.package_paths import ASSETS

SCRIPTS_FOLDER = ASSETS / "report"
SCRIPTS = (
    "dom",
    "sorting",
    "data",
    "cards",
    "filter",
    "table",
    "pairs",
    "details",
    "head",
    "sweep",
)
"""In the order they need each other."""


def page(title: str, data: Any, scripts: Sequence[str]) -> str:
    """The page as HTML. data: for the scripts. scripts: names under `assets/report`, in order.

    Raises:
        ValueError: NaN or infinity in the data, which JSON does not know.
    """
    code = "\n".join((SCRIPTS_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in scripts)
    # A closing tag within the data would end the script that contains it; no other character can.
    values = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(title.encode("utf-8", "replace").decode()),
        "style": (SCRIPTS_FOLDER / "style.css").read_text(encoding="utf-8"),
        "vega": BUNDLE.read_text(encoding="utf-8"),
        "script": code,
        "data": values,
    }
    text = (SCRIPTS_FOLDER / "page.html").read_text(encoding="utf-8")
    # The data last, so that nothing in it is taken for a place to fill.
    for name, value in parts.items():
        before, _, after = text.partition(f"<!--{name}-->")
        text = before + value + after
    return text
