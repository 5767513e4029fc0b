"""What all figures of the reports share: colours, intervals, saving.

Colours are those of Okabe and Ito (Color Universal Design, 2008), distinguishable with any colour vision; shape or dash
shows the same once more. Figures are made without pyplot: nothing global is touched, no display is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rwkv_sweep.records.results import Result
from rwkv_sweep.stats.intervals import Interval

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"))
"""Colour and marker of the first, second, ... group of runs."""

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "errorbar.capsize": 2.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "svg.hashsalt": "rwkv_sweep",  # the same numbers give the same file
    "text.parse_math": False,  # a $ in a name is a $
    "figure.constrained_layout.use": True,
}


def points(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[Interval],
    look: tuple[str, str],
    label: str | None = None,
    *,
    sideways: bool = False,
    line: str = "none",
    fill: str | None = None,
) -> None:
    """Values with their intervals at `places`: upright over x, or sideways along y."""
    middle = [value.value for value in values]
    # A percentile interval need not contain its value: a bar of negative length is an error in matplotlib.
    reach = [[max(0.0, v.value - v.lo) for v in values], [max(0.0, v.hi - v.value) for v in values]]
    colour, marker = look
    style: dict[str, Any] = {"color": colour, "marker": marker, "markerfacecolor": fill or colour, "label": label}
    style |= {"linestyle": line, "linewidth": 1.3}
    if sideways:
        axes.errorbar(middle, places, xerr=reach, **style)
    else:
        axes.errorbar(places, middle, yerr=reach, **style)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.svg` and `<stem>.png` (160 dots per inch); return both paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    # The layout is found once, not again for each file: it takes longer than the drawing.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    svg, png = stem.with_suffix(".svg"), stem.with_suffix(".png")
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(png, dpi=160)
    return [svg, png]


def draw_all(
    drawings: Mapping[str, Callable[[Sequence[Result]], Figure | None]], results: Sequence[Result], folder: Path
) -> list[Path]:
    """Save each drawing that finds something to draw under its name in `folder`; returns the paths, SVG before PNG."""
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, draw in drawings.items():
            figure = draw(results)
            if figure is not None:
                paths += save(figure, folder / name)
    return paths
