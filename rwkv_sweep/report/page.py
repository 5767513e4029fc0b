"""One self-contained page: markup, style, scripts and data in one file that asks nothing of any network."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rwkv_sweep.report.findings import Findings, find
from rwkv_sweep.report.page_data import page_data
from rwkv_sweep.results import PAGE_FILE, write_atomically
from rwkv_sweep.sweep_folder import result_folders, sweep_results
from rwkv_sweep.sweep_record import SweepRecord

ASSETS = Path(__file__).parents[1] / "assets" / "report"
SCRIPTS = (
    "dom",
    "sorting",
    "data",
    "plot",
    "cards",
    "filter",
    "table",
    "charts",
    "heat",
    "rows",
    "pairs",
    "details",
    "head",
    "sweep",
)
"""In the order they need each other."""


def write_page(root: Path, findings: Findings | None = None) -> Path:
    """Write `report.html` into the folder of a sweep (or of a single run) from its records; return its path.

    findings: of these records, where they are known already.

    Raises:
        UserError: the folder holds no sweep, or its record is damaged.
    """
    record = SweepRecord.load(root)
    findings = findings or find(record, sweep_results(root), result_folders(root))
    path = root / PAGE_FILE
    write_atomically(path, page(record.name, page_data(record, findings), SCRIPTS))
    return path


def page(title: str, data: Any, scripts: Sequence[str]) -> str:
    """The page as HTML. data: for the scripts. scripts: names under `assets/report`, in order.

    Raises:
        ValueError: NaN or infinity in the data, which JSON does not know.
    """
    code = "\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in scripts)
    # A closing tag within the data would end the script that holds it; no other character can.
    values = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(title.encode("utf-8", "replace").decode()),
        "style": (ASSETS / "style.css").read_text(encoding="utf-8"),
        "script": code,
        "data": values,
    }
    text = (ASSETS / "page.html").read_text(encoding="utf-8")
    # The data last, so that nothing in it is taken for a place to fill.
    for name, value in parts.items():
        before, _, after = text.partition(f"<!--{name}-->")
        text = before + value + after
    return text
