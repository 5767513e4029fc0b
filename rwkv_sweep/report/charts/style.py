"""The look of every chart, on a light and on a dark ground: colours, shapes, dashes, as Vega-Lite's `config`.

Colours are those of Okabe and Ito (Color Universal Design, 2008), lightened for a dark ground and distinguishable with
any colour vision; shape or dash shows the same once more. A specification names styles and never a colour, so that one
specification serves both grounds, the page, and the files.
"""

from __future__ import annotations

from typing import Any

BLUE, ORANGE = "#0072b2", "#d55e00"
# Fewer shapes than colours, so that the pairs of both repeat late.
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right"]
DASHES = [[1, 0], [6, 3], [2, 3], [8, 3, 2, 3], [4, 1], [1, 1], [10, 2], [3, 6]]
INKS: dict[str, dict[str, Any]] = {
    "light": {
        **{"ground": "#ffffff", "ink": "#1b1f24", "soft": "#5a6470", "line": "#c9ced4", "grid": "#eceff2"},
        "series": [BLUE, ORANGE, "#009e73", "#b5578e", "#b07c00", "#3d9fd6", "#5a6470", "#1b1f24"],
        "heat": ["#f1f6fa", "#08467a"],
    },
    "dark": {
        **{"ground": "#1a2027", "ink": "#e6eaee", "soft": "#a3aeb9", "line": "#4a5561", "grid": "#262e36"},
        "series": ["#64b9ec", "#f2894a", "#35c79b", "#e08fbd", "#e5b53a", "#9fd4f3", "#a3aeb9", "#e6eaee"],
        "heat": ["#1e2a35", "#8fd0f7"],
    },
}


def theme(ground: str) -> dict[str, Any]:
    """Vega-Lite's `config` for a `light` or a `dark` ground."""
    ink = INKS[ground]
    text = {"labelColor": ink["soft"], "titleColor": ink["ink"], "labelFontSize": 11.5, "titleFontSize": 12}
    return {
        "background": ink["ground"],
        "font": "Liberation Sans, Arial, Helvetica, sans-serif",
        "view": {"stroke": None},
        "axis": {
            **text,
            **{"gridColor": ink["grid"], "domainColor": ink["line"], "tickColor": ink["line"]},
            **{"titleFontWeight": 600, "labelOverlap": True},
        },
        "axisBand": {"grid": False},
        "axisY": {"labelLimit": 320},
        "legend": {
            **text,
            "orient": "bottom",
            "symbolBaseFillColor": ink["soft"],
            "symbolBaseStrokeColor": ink["soft"],
            "titleFontWeight": 600,
            "symbolStrokeWidth": 1.6,
            "labelLimit": 240,
        },
        "header": {**text, "labelFontWeight": 600, "labelAnchor": "start"},
        "title": {"color": ink["ink"], "anchor": "start", "fontSize": 13},
        "range": {"category": ink["series"], "ramp": ink["heat"], "heatmap": ink["heat"], "symbol": SHAPES},
        "rule": {"color": ink["soft"]},
        "text": {"color": ink["ink"], "fontSize": 11},
        "bar": {"color": ink["series"][0]},
        "line": {"color": ink["soft"], "strokeWidth": 1.6, "strokeOpacity": 0.8},
        "point": {"filled": True, "size": 60, "opacity": 1},
        "style": {
            "interval": {"strokeWidth": 1.4, "strokeOpacity": 0.55},
            "baseline": {"strokeWidth": 1.2},
            "baseline-name": {"color": ink["soft"], "align": "left", "dx": 4, "dy": -5},
            "reference": {"color": ink["ink"], "strokeWidth": 1.2},
            "noise": {"color": ink["grid"], "opacity": 1},
            "front": {"strokeWidth": 1, "strokeDash": [4, 3]},
            "name": {"fontWeight": 600, "align": "left", "dx": 7, "dy": -8},
            "heat-low": {"color": ink["ink"]},
            "heat-high": {"color": ink["ground"]},
        },
    }
