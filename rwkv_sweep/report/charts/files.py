"""Charts as SVG and PNG, by vl-convert: Vega in the same version that the page contains, without a browser."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rwkv_sweep.report.charts.chart import ROWS, Row, Runs, View
from rwkv_sweep.report.charts.style import theme
from rwkv_sweep.utils.files import write_atomically

WIDTH = 760
SCALE = 2.0
"""Pixels of the PNG per pixel of the SVG."""
VEGA_LITE = "6.4"
"""The version whose schema Altair writes; vl-convert knows several."""
log = logging.getLogger(__name__)


def standalone(view: View, rows: Sequence[Row], width: int = WIDTH) -> dict[str, Any]:
    """The specification with its data, on a light ground."""
    spec = {**view.spec, "config": theme("light"), "datasets": {**view.spec.get("datasets", {}), ROWS: list(rows)}}
    if spec.get("width") == "container":
        spec["width"] = width
    return spec


def stacked(views: Sequence[View], runs: Runs) -> View | None:
    """Several views below each other in one figure, each with its own axes and legends; None for none."""
    if len(views) < 2:
        return views[0] if views else None
    datasets: dict[str, Any] = {}
    parts = []
    for number, view in enumerate(views):
        name = f"{ROWS}_{number}"
        datasets[name] = runs.joined(view.rows)
        part = {key: value for key, value in _renamed(view.spec, name).items() if key not in ("$schema", "datasets")}
        datasets |= view.spec.get("datasets", {})
        parts.append({**part, "width": WIDTH})
    resolve = {"scale": {channel: "independent" for channel in ("color", "shape", "strokeDash")}}
    spec = {"$schema": views[0].spec["$schema"], "vconcat": parts, "resolve": resolve, "datasets": datasets}
    return View(views[0].name, spec, [])


def _renamed(part: Any, name: str) -> Any:
    if isinstance(part, dict):
        return {
            key: {"name": name} if value == {"name": ROWS} else _renamed(value, name) for key, value in part.items()
        }
    return [_renamed(value, name) for value in part] if isinstance(part, list) else part


def _renumbered(svg: str) -> str:
    """The same file for the same numbers: Vega counts clips and gradients through a whole process."""
    names: dict[str, str] = {}
    return re.sub(
        r"(?<=[\"#])(clip|gradient_?)\d+",
        lambda match: names.setdefault(match[0], f"{match[1]}{len(names)}"),
        svg,
    )


def write_views(views: Iterable[tuple[str, View | None]], runs: Runs | None, folder: Path) -> list[Path]:
    """Write each view as `<name>.svg` and `<name>.png` into `folder`; return the paths, SVG before PNG.

    None is left out. Where vl-convert is not installed nothing is written, which the log says: the page has all charts.
    """
    drawn = [(name, view) for name, view in views if view is not None]
    if not drawn:
        return []
    try:
        import vl_convert
    except ImportError:
        log.info("no SVG and no PNG of the charts: vl-convert-python is not installed; report.html shows them")
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, view in drawn:
        rows = runs.joined(view.rows) if runs is not None else view.rows
        svg = vl_convert.vegalite_to_svg(standalone(view, rows), vl_version=VEGA_LITE)
        svg = _renumbered(svg)
        paths += [folder / f"{name}.svg", folder / f"{name}.png"]
        write_atomically(paths[-2], svg)
        paths[-1].write_bytes(vl_convert.svg_to_png(svg, scale=SCALE))
    return paths
