"""Figures as SVG, PNG and CSV, drawn without a browser."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

import vl_convert

from analysis.report.figures.marks import HOVER, VEGA_LITE_VERSION, Figure
from analysis.report.theme import CONFIG, LIGHT, Theme, paint

PNG_SCALE: Final = 2.0


def svg(figure: Figure, theme: Theme = LIGHT) -> str:
    """The figure as an SVG document, drawn without a browser."""
    config = {**CONFIG, "legend": CONFIG["legend"] | figure.chart.get("config", {}).get("legend", {})}
    chart = paint({**figure.chart, "config": config}, theme)
    if "layer" in chart:
        chart["layer"] = [layer for layer in chart["layer"] if layer.get("name") != HOVER]
    drawn: str = vl_convert.vegalite_to_svg(chart, vl_version=VEGA_LITE_VERSION, allowed_base_urls=[])
    return drawn


def png(drawn: str) -> bytes:
    """An SVG document as a PNG of twice its size."""
    data: bytes = vl_convert.svg_to_png(drawn, scale=PNG_SCALE)
    return data


def csv_text(figure: Figure) -> str:
    """The data behind a figure, one row per drawn value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(figure.columns)
    for row in figure.rows:
        writer.writerow([_csv_field(row.get(key)) for key in figure.columns])
    return file.getvalue()


def _csv_field(value: Any) -> Any:
    # A spreadsheet takes a text that begins like this for a formula.
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return "" if value is None else value
