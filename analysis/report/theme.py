"""Colours and chart configuration of figures and report, light and dark. No I/O.

Colour says which model, dash and shape say which quantity, so no figure rests on colour alone. The hues are those of
Okabe and Ito (Color Universal Design, https://jfly.uni-koeln.de/color/), darkened for white paper and lightened for
dark screens until each stands at 3:1 or more against its background (WCAG 2.2, 1.4.11).

A chart names colours by token (`@resnet50`, `@ink`); `paint` puts in those of a theme. The page does the same in the
reader's browser when the colour scheme changes.
"""

from __future__ import annotations

from typing import Any, Final

Theme = dict[str, str]

LIGHT: Final[Theme] = {
    "@paper": "#ffffff",
    "@ink": "#1b1f24",
    "@quiet": "#57606a",
    "@grid": "#e4e7eb",
    "@axis": "#8c959f",
    "@reference": "#6e7781",
    "@band": "#8c959f",
    "@lab": "#7a4b00",
    "@aws": "#0b5394",
    "@resnet50": "#0072b2",
    "@inceptionv3": "#c04f00",
    "@mobilenet": "#00805d",
    "@series1": "#0072b2",
    "@series2": "#c04f00",
    "@series3": "#00805d",
    "@series4": "#a8508a",
    "@series5": "#7b6900",
    "@step1": "#a87400",
    "@step2": "#c4571a",
    "@step3": "#b5305a",
    "@step4": "#84308c",
    "@step5": "#47379b",
    "@step6": "#171c4f",
    "@ok": "#c5ccd3",
    "@good": "#00805d",
    "@bad": "#b3261e",
}

DARK: Final[Theme] = {
    "@paper": "#14181d",
    "@ink": "#e8ebee",
    "@quiet": "#a9b2bc",
    "@grid": "#2b323a",
    "@axis": "#6b7682",
    "@reference": "#98a2ad",
    "@band": "#6b7682",
    "@lab": "#f0b95b",
    "@aws": "#7cc0f5",
    "@resnet50": "#56b4e9",
    "@inceptionv3": "#f2994a",
    "@mobilenet": "#3ccf9f",
    "@series1": "#56b4e9",
    "@series2": "#f2994a",
    "@series3": "#3ccf9f",
    "@series4": "#e08bc0",
    "@series5": "#d9c545",
    "@step1": "#8f7bf0",
    "@step2": "#c379d8",
    "@step3": "#ea7a8e",
    "@step4": "#f2964a",
    "@step5": "#f4c24f",
    "@step6": "#f7f0a8",
    "@ok": "#48525c",
    "@good": "#3ccf9f",
    "@bad": "#ff8a80",
}

THEMES: Final[dict[str, Theme]] = {"light": LIGHT, "dark": DARK}

# Second channel beside colour.
MODEL_SHAPES: Final[dict[str, str]] = {"resnet50": "circle", "inceptionv3": "square", "mobilenet": "triangle-up"}
MODEL_DASHES: Final[dict[str, list[int]]] = {"resnet50": [1, 0], "inceptionv3": [7, 3], "mobilenet": [2, 2]}
SERIES_SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
SERIES_DASHES: Final[tuple[list[int], ...]] = ([1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 2, 2, 2, 2, 2])

FONT: Final = "Liberation Sans, Helvetica Neue, Helvetica, Arial, sans-serif"

CONFIG: Final[dict[str, Any]] = {
    "background": "@paper",
    "font": FONT,
    "padding": 6,
    "view": {"stroke": None, "continuousWidth": 640, "continuousHeight": 320},
    "title": {
        "anchor": "start",
        "frame": "group",
        "color": "@ink",
        "fontSize": 15,
        "fontWeight": "bold",
        "subtitleColor": "@quiet",
        "subtitleFontSize": 11,
        "subtitlePadding": 5,
        "subtitleLineHeight": 15,
        "offset": 12,
    },
    "axis": {
        "domainColor": "@axis",
        "gridColor": "@grid",
        "tickColor": "@axis",
        "labelColor": "@ink",
        "labelFontSize": 11,
        "labelPadding": 4,
        "titleColor": "@quiet",
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "axisX": {"grid": False},
    "axisY": {
        "domain": False,
        "ticks": False,
        # The title lies flat above the axis, where it is read without turning the head.
        "titleAngle": 0,
        "titleAlign": "left",
        "titleAnchor": "end",
        "titleBaseline": "bottom",
        "titleX": 0,
        "titleY": -8,
    },
    "legend": {
        "orient": "top",
        "direction": "horizontal",
        "title": None,
        "labelColor": "@ink",
        "labelFontSize": 12,
        "labelLimit": 260,
        "symbolSize": 90,
        "columnPadding": 18,
        "offset": 26,
    },
    "line": {"strokeWidth": 2},
    "point": {"size": 55, "strokeWidth": 2},
    "rule": {"strokeWidth": 1.4},
    "bar": {"continuousBandSize": 18},
    "text": {"color": "@ink", "fontSize": 11},
}


def paint(node: Any, theme: Theme) -> Any:
    """The same chart with every colour token replaced; data (`datasets`) is left alone."""
    if isinstance(node, dict):
        return {key: value if key == "datasets" else paint(value, theme) for key, value in node.items()}
    if isinstance(node, list):
        return [paint(value, theme) for value in node]
    if isinstance(node, str) and node.startswith("@"):
        return theme.get(node, node)
    return node


def model_colour(model: str, position: int) -> str:
    """Token of a model's colour; one that the palette does not name takes the next of the series."""
    token = f"@{model}"
    return token if token in LIGHT else f"@series{position % 5 + 1}"
