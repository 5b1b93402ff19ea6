"""Colors and chart configuration of figures and report, light and dark. No I/O.

The hue says which model and its shade which engine; dash and shape repeat that, or say which quantity, so no figure
rests on color alone. The hues are those of
Okabe and Ito (Color Universal Design, https://jfly.uni-koeln.de/color/), darkened for white paper and lightened for
dark screens until each stands at 3:1 or more against its background (WCAG 2.2, 1.4.11).

A chart names colors by token (`@series1`, `@ink`); `paint` puts in those of a theme. The page does the same in the
reader's browser when the color scheme changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.variants import Image

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

HUES: Final = 5
# Shades of a hue for the second engine of a run and those after it: mixed with black or white by this share.
_LIGHT_SHADES: Final = (("#000000", 0.45), ("#ffffff", 0.2), ("#000000", 0.72))
_DARK_SHADES: Final = (("#ffffff", 0.5), ("#000000", 0.35), ("#ffffff", 0.8))


def _mixed(color: str, other: str, share: float) -> str:
    pairs = [(int(color[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(mine + (theirs - mine) * share):02x}" for mine, theirs in pairs)


for _theme, _shades in ((LIGHT, _LIGHT_SHADES), (DARK, _DARK_SHADES)):
    _theme |= {
        f"@series{hue}-{place}": _mixed(_theme[f"@series{hue}"], other, share)
        for hue in range(1, HUES + 1)
        for place, (other, share) in enumerate(_shades, start=2)
    }

THEMES: Final[dict[str, Theme]] = {"light": LIGHT, "dark": DARK}

# The hues of the paper's models, whatever else is in a run.
MODEL_HUES: Final[dict[str, int]] = {"resnet50": 1, "inceptionv3": 2, "mobilenet": 3}
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
        # The title is horizontal, above the axis, so that readers need not turn their heads.
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
    """The same chart with every color token replaced; data (`datasets`) is left alone."""
    if isinstance(node, dict):
        return {key: value if key == "datasets" else paint(value, theme) for key, value in node.items()}
    if isinstance(node, list):
        return [paint(value, theme) for value in node]
    if isinstance(node, str) and node.startswith("@"):
        return theme.get(node, node)
    return node


@dataclass(frozen=True)
class Style:
    """How an image is drawn in every figure of a report."""

    color: str
    dash: Sequence[int]
    shape: str


def image_styles(images: Sequence[Image]) -> dict[Image, Style]:
    """The style of each image of a run.

    Hue and shape tell models apart, shade and dash engines and architectures. Where there is one of each, the dash
    tells models too. Shades repeat after four.
    """
    models = list(dict.fromkeys(image.model for image in images))
    engines = list(dict.fromkeys(image.group for image in images))
    free = [hue for hue in (4, 5, 1, 2, 3) if hue not in {MODEL_HUES.get(model) for model in models}]
    own = [model for model in models if model not in MODEL_HUES]
    hues = MODEL_HUES | {model: (free or [4, 5])[place % len(free or [4, 5])] for place, model in enumerate(own)}
    # The paper's models keep their shapes as they keep their hues.
    shapes = {model: SERIES_SHAPES[(hues[model] - 1 + models.index(model) // HUES) % 6] for model in models}
    found = {}
    for image in images:
        engine = engines.index(image.group)
        dash = engine if len(engines) > 1 else hues[image.model] - 1
        shade = f"-{engine % 4 + 1}" if engine % 4 else ""
        found[image] = Style(
            f"@series{hues[image.model]}{shade}", SERIES_DASHES[dash % len(SERIES_DASHES)], shapes[image.model]
        )
    return found
