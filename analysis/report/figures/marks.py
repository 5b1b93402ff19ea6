"""Parts of figures: axes, lines with intervals, spreads, stacks, and the frame with title and badge. No I/O.

A chart is a Vega-Lite specification whose colors are tokens (see `analysis.report.theme`) and whose data are one data
set named `rows`, so that the page can filter the rows and change the theme without making the chart again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from analysis.report.theme import SERIES_DASHES, SERIES_SHAPES, image_styles
from analysis.report.wording import estimate_text, missing_reason, rounded
from analysis.summary import HANDLER_METRICS, NOTHING_ENFORCED, Estimate, Summary
from core.run.records import Experiment
from core.variants import MEMORY_MB_PER_VCPU, Image, Variant

Row = dict[str, Any]
Columns = dict[str, str]  # of the table and the CSV behind a figure, and of a tooltip: labels by key
Spec = dict[str, Any]  # Vega-Lite, or a part of it: https://vega.github.io/vega-lite/docs/
NOT_REPORTED: Final = "the function does not report it"

VEGA_LITE_VERSION: Final = "6.4"  # the newest of vl-convert
WIDTH_PX: Final = 660
HEIGHT_PX: Final = 320
EMPTY_HEIGHT_PX: Final = 48
WIDE_PLOT_PX: Final = 430  # of a chart next to another
NARROW_PLOT_PX: Final = 260  # of a chart on a phone
LABEL_PX: Final = 30  # of a memory size in four digits with a gap
HEADING_CHARACTERS: Final = 84  # of a line in a picture of WIDTH_PX
SUBTITLE_CHARACTERS: Final = 112
MAX_NOTES_IN_PICTURE: Final = 3
LOG_SCALE_FROM_RATIO: Final = 12.0  # a linear axis would press the smaller values flat
HOVER: Final = "hover"  # name of a layer that only a pointer meets: pictures on disk do without
ROWS: Final[Spec] = {"name": "rows"}
NO_ROWS: Final[Spec] = {"values": [{}]}  # of a mark that is drawn once, whatever the rows
LINE_SYMBOLS: Final = {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolOpacity": 1}


@dataclass(frozen=True)
class Text:
    """Words of a figure, apart from its data."""

    id: str  # file name without suffix, for example `fig04_warm_inceptionv3`
    title: str
    caption: str
    section: str  # part of the report it belongs to
    experiments: tuple[str, ...]  # it is hidden with the first of them
    images: tuple[Image, ...]  # it is hidden with the last of them
    label: str = ""  # "Figure 4", or "" for one the paper does not have
    detail: str = ""

    @property
    def heading(self) -> str:
        return f"{self.label}. {self.title}" if self.label else self.title


@dataclass(frozen=True, kw_only=True)
class Figure(Text):
    """A chart with the data behind it."""

    chart: Spec
    rows: list[Row]
    columns: Columns
    notes: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()
    why_empty: str = ""  # set where there is nothing to draw: the picture says it

    @property
    def empty(self) -> bool:
        return not self.rows


@dataclass(frozen=True)
class Series:
    """One entry of a legend: its name, color token, dash and shape."""

    name: str
    color: str
    dash: Sequence[int] = (1, 0)
    shape: str = "circle"


@dataclass
class Points:
    """Rows of a figure as they gather, and what could not be drawn."""

    summary: Summary
    rows: list[Row] = field(default_factory=list)
    gaps: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # (variant, reason) -> series

    def add(
        self,
        variant: Variant,
        where: tuple[Experiment, str],
        series: str,
        metric: str,
        percentile: str = "p50",
        *,
        gaps: bool = True,
    ) -> None:
        """Add the estimate of one cell's metric, or (`gaps`) the reason why it is missing."""
        experiment, start_type = where
        cell = self.summary.cell(variant.key, experiment, start_type)
        distribution = cell.metrics.get(metric) if cell is not None else None
        estimate: Estimate | None = getattr(distribution, percentile) if distribution is not None else None
        if estimate is None or estimate.value is None:
            silent = cell is not None and cell.n > 0 and metric in HANDLER_METRICS and not distribution
            reason = NOT_REPORTED if silent else missing_reason(self.summary, variant, experiment, estimate)
            if gaps:
                self.gap(variant, series, reason)
        else:
            unit = distribution.unit if distribution else "ms"
            self.add_estimate(variant, series, estimate, unit=unit, experiment=experiment)

    def add_estimate(
        self, variant: Variant, series: str, estimate: Estimate, *, unit: str, experiment: str = ""
    ) -> None:
        """Add an estimate that has a value."""
        if estimate.low is None or estimate.high is None:
            self.gap(variant, series, f"no interval, {estimate.reason or 'too few samples'}")
        self.rows.append(
            {
                "experiment": experiment,
                **row_of(variant),
                "series": series,
                "value": rounded(estimate.value),
                "low": rounded(estimate.low),
                "high": rounded(estimate.high),
                "n": estimate.n,
                "text": estimate_text(estimate, unit),
            }
        )

    def gap(self, variant: Variant, series: str, reason: str) -> None:
        self.gaps.setdefault((variant.display_name, reason), []).append(series)

    @property
    def notes(self) -> list[str]:
        """One sentence per function; the quantity is named only where the function's others are drawn."""
        drawn = {(f"{row['name']} {row['memory_mb']} MB", row["series"]) for row in self.rows}
        notes: dict[str, list[str]] = {}
        for (name, reason), series in self.gaps.items():
            others = any(key[0] == name and key[1] not in series for key in drawn)
            notes.setdefault(name, []).append(f"{' and '.join(series)}: {reason}" if others else reason)
        return [f"{name}, {'; '.join(reasons)}" for name, reasons in notes.items()]

    @property
    def sample_range(self) -> str:
        counts = sorted({row["n"] for row in self.rows})
        if not counts:
            return ""
        return f"n = {counts[0]:,}" if len(counts) == 1 else f"n = {counts[0]:,} to {counts[-1]:,}"


FUNCTION: Final = {"name": "Model", "memory_mb": "Memory, MB"}
QUANTITY: Final = FUNCTION | {"series": "Quantity"}


def row_of(variant: Variant) -> Row:
    """Return the columns that describe a row's function; the page filters by them."""
    return {
        "model": variant.model,
        "engine": variant.group,
        "name": variant.image.display_name,
        "memory_mb": variant.memory_mb,
    }


def image_series(summary: Summary) -> tuple[Series, ...]:
    """One series per image, in the color, dash and shape it has everywhere in the report."""
    styles = image_styles(summary.images)
    return tuple(Series(image.display_name, one.color, one.dash, one.shape) for image, one in styles.items())


def memory_series(memory_sizes_mb: Sequence[int]) -> tuple[Series, ...]:
    """One series per memory size, on a ramp from the light to the dark, or the other way on a dark screen."""
    last = max(len(memory_sizes_mb) - 1, 1)
    return tuple(
        Series(
            f"{memory_mb} MB",
            f"@step{1 + round(index * 5 / last)}",
            SERIES_DASHES[index % len(SERIES_DASHES)],
            SERIES_SHAPES[index % len(SERIES_SHAPES)],
        )
        for index, memory_mb in enumerate(memory_sizes_mb)
    )


# ---------------------------------------------------------------------------------------------------------------------
# The frame


def make_figure(
    text: Text,
    summary: Summary,
    rows: list[Row],
    draw: Callable[[], Spec],
    columns: Columns,
    series: Sequence[Series],
    *,
    notes: Sequence[str] = (),
    legend_style: dict[str, Any] | None = None,
    why_empty: str = "",
    height_px: int = HEIGHT_PX,
) -> Figure:
    """Put words, data and chart together; without rows the picture says why."""
    why_empty = "" if rows else why_empty or "nothing was measured"
    legend = tuple(one.name for one in series)
    if rows:
        spec = _framed(draw(), summary, text.heading, [text.detail, _notes_line(notes)])
        spec["height"] = height_px
        spec["config"] = {"legend": {"columns": legend_columns(legend, WIDTH_PX)} | (legend_style or {})}
    else:
        spec = _framed(_nothing(f"No data: {why_empty}."), summary, text.heading, [_notes_line(notes)])
        spec["height"] = EMPTY_HEIGHT_PX
    return Figure(
        **vars(text),
        chart=spec | {"datasets": {"rows": rows}},
        rows=rows,
        columns=columns,
        notes=tuple(notes),
        legend=legend,
        why_empty=why_empty,
    )


def _framed(chart: Spec, summary: Summary, heading: str, details: Sequence[str]) -> Spec:
    """The specification with size, title, and the badge and the details below the title."""
    subtitle = [line for text in (summary.origin.badge, *details) for line in _wrapped(text, SUBTITLE_CHARACTERS)]
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE_VERSION}.json",
        "description": f"{heading}. {summary.origin.badge}.",
        "title": {"text": _wrapped(heading, HEADING_CHARACTERS), "subtitle": subtitle},
        "width": WIDTH_PX,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": ROWS,
        **chart,
    }


def _wrapped(text: str, characters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > characters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]


def _notes_line(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    rest = len(notes) - MAX_NOTES_IN_PICTURE
    more = f"; and {rest} more" if rest > 0 else ""
    return f"Not shown or without interval: {'; '.join(notes[:MAX_NOTES_IN_PICTURE])}{more}"


def _nothing(text: str) -> Spec:
    """A picture that says why there is no figure."""
    return mark("text", {}, text=text, color="@quiet", fontSize=14, align="left", x=0, y=24) | {"data": NO_ROWS}


def legend_columns(legend: Sequence[str], width_px: int) -> int:
    """As many entries side by side as the width holds."""
    return max(1, min(len(legend), width_px // legend_entry_px(legend)))


def legend_entry_px(legend: Sequence[str]) -> int:
    """Width of the widest entry, by the mean advance of a 12 px sans serif."""
    return 6 * max((len(name) for name in legend), default=0) + 48


# ---------------------------------------------------------------------------------------------------------------------
# Marks and their channels


def mark(kind: str, encoding: Spec, *, where: tuple[str, str] | None = None, **style: Any) -> Spec:
    """A mark for each row, or for those whose field (`where`) has this value."""
    spec: Spec = {"mark": {"type": kind, **style}, "encoding": encoding}
    if where:
        field, value = where
        spec["transform"] = [{"filter": {"field": field, "equal": value}}]
    return spec


def quantity(key: str, **more: Any) -> Spec:
    """A channel by a number of each row."""
    return {"field": key, "type": "quantitative", **more}


def category(key: str, **more: Any) -> Spec:
    """A channel by a name in each row."""
    return {"field": key, "type": "nominal", **more}


def colors(series: Sequence[Series], key: str = "series") -> Spec:
    names = [one.name for one in series]
    return category(key, scale={"domain": names, "range": [one.color for one in series]})


def shapes(series: Sequence[Series], key: str = "series") -> Spec:
    names = [one.name for one in series]
    return category(key, scale={"domain": names, "range": [one.shape for one in series]})


def tooltip(columns: Columns) -> list[Spec]:
    return [category(key, title=label) for key, label in columns.items()]


def memory_categories() -> Spec:
    """The channel of memory sizes side by side, whatever lies between them."""
    return {"field": "memory_mb", "type": "ordinal", "axis": {"title": "Memory size, MB", "labelAngle": 0}}


def seconds() -> Spec:
    """The channel of the time of a load test."""
    return quantity("second", axis={"title": "Time since the start of the load test, s", "tickMinStep": 1})


# ---------------------------------------------------------------------------------------------------------------------
# Axes


def _ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: the fewer decades, the more ticks in each."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 4 else (1, 3) if last - first > 2 else (1, 2, 5)
    return [step * 10.0**power for power in range(first, last + 1) for step in steps]


def value_axis(
    rows: Sequence[Row], title: str, keys: Sequence[str] = ("value", "low", "high"), *, zero: bool = True
) -> Spec:
    """Scale and axis that suit the values: linear from 0 (`zero`), or logarithmic where they span a decade or more."""
    values = [row[key] for row in rows for key in keys if row.get(key) is not None]
    if values and min(values) > 0 and max(values) / min(values) > LOG_SCALE_FROM_RATIO:
        axis = {"title": f"{title}, logarithmic", "values": _ticks(min(values), max(values)), "format": ",~r"}
        return {"scale": {"type": "log", "nice": False, "padding": 12}, "axis": axis}
    return {
        "scale": {"type": "linear", "zero": zero, "nice": True},
        "axis": {"title": title, "tickCount": 6, "format": ",~r"},
    }


def memory_axis(memory_sizes_mb: Iterable[int]) -> Spec:
    """Scale and axis that put memory sizes where they are, each one labeled where there is room."""
    sizes = sorted(set(memory_sizes_mb))
    low, high = _memory_domain(sizes)
    return {
        "scale": {"domain": [low, high], "nice": False, "zero": False},
        "axis": {
            "title": "Memory size, MB",
            "values": sizes,
            "format": "d",
            # Vega's own thinning of labels goes wrong where a chart is fitted to its container in several passes.
            "labelOverlap": False,
            "labelExpr": memory_labels(sizes, WIDE_PLOT_PX),
        },
    }


def _memory_domain(sizes: Sequence[int]) -> tuple[float, float]:
    margin = max((sizes[-1] - sizes[0]) * 0.04, 64)
    return sizes[0] - margin, sizes[-1] + margin


def memory_labels(memory_sizes_mb: Iterable[int], plot_px: int) -> str:
    """A Vega expression for the labels of a memory axis: first and last, and between them what does not touch."""
    sizes = sorted(set(memory_sizes_mb))
    low, high = _memory_domain(sizes)
    gap_mb = LABEL_PX * (high - low) / plot_px
    kept = sizes[:1]
    for size in sizes[1:-1]:
        if size - kept[-1] >= gap_mb and sizes[-1] - size >= gap_mb:
            kept.append(size)
    kept += sizes[-1:] if len(sizes) > 1 else []
    return f"indexof({kept}, datum.value) < 0 ? '' : datum.label"


def memory_axis_values(node: Any) -> list[int]:
    """The memory sizes on the axis of a chart; none where it has no such axis."""
    if isinstance(node, dict):
        axis = node.get("axis")
        if isinstance(axis, dict) and "labelExpr" in axis:
            return list(axis["values"])
        node = list(node.values())
    if isinstance(node, list):
        return next((found for child in node if (found := memory_axis_values(child))), [])
    return []


def one_vcpu_rule(memory_sizes_mb: Iterable[int]) -> list[Spec]:
    """A thin line at 1769 MB, where the CPU share reaches one vCPU, if the axis reaches beyond it."""
    sizes = sorted(set(memory_sizes_mb))
    if not sizes[0] < MEMORY_MB_PER_VCPU < sizes[-1]:
        return []
    x = {"datum": MEMORY_MB_PER_VCPU, **memory_axis(sizes)}
    label: Spec = {"color": "@quiet", "align": "center", "baseline": "bottom", "fontSize": 10, "text": "1 vCPU"}
    return [
        mark("rule", {"x": x}, color="@grid", strokeWidth=1, aria=False) | {"data": NO_ROWS},
        mark("text", {"x": x, "y": {"value": -5}}, **label) | {"data": NO_ROWS},
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Kinds of charts


def line_of(one: Series, encoding: Spec, **style: Any) -> Spec:
    """The line of one series.

    Its dash is set here rather than by a scale, which would draw dashes round the symbols of the legend.
    """
    return mark("line", encoding, where=("series", one.name), strokeDash=list(one.dash), **style)


def is_one_moment(rows: Sequence[Row]) -> bool:
    """Whether lines over time have one point each, which is seen only as a dot."""
    return len({row["second"] for row in rows}) == 1


def curves(rows: Sequence[Row], series: Sequence[Series], axis_title: str, memory_sizes_mb: Iterable[int]) -> Spec:
    """Lines over memory size with points and intervals."""
    axis = value_axis(rows, axis_title)
    base = {"x": quantity("memory_mb", **memory_axis(memory_sizes_mb)), "color": colors(series)}
    value, low, high = (base | {"y": quantity(key, **axis)} for key in ("value", "low", "high"))
    cap: Spec = {"size": 9, "thickness": 1.4, "orient": "horizontal"}
    intervals = [
        mark("rule", low | {"y2": {"field": "high"}}),
        mark("tick", low, **cap),
        mark("tick", high, **cap),
    ]
    hover = tooltip(QUANTITY | {"text": "Value (95% interval)", "n": "n"})
    point = value | {"shape": shapes(series), "tooltip": hover}
    return {
        "layer": [
            *one_vcpu_rule(memory_sizes_mb),
            *(intervals if any(row["low"] is not None for row in rows) else []),
            *(line_of(one, value) for one in series),
            mark("point", point, filled=True, opacity=1),
        ]
    }


def sizes_tell_apart(summary: Summary) -> bool:
    """Whether memory sizes may be compared in a picture: their limits were in force, or there is one size."""
    sizes = {variant.memory_mb for variant in summary.variants.values()}
    return len(sizes) < 2 or summary.origin.limits.memory_sizes_are_comparable


def curve_figure(
    text: Text,
    points: Points,
    series: Sequence[Series],
    axis_title: str,
    memory_sizes_mb: Sequence[int],
    why_empty: str,
) -> Figure:
    """A figure of `curves`; series without a point are left out of the legend."""
    if not sizes_tell_apart(points.summary):
        points.rows.clear()
        points.gaps.clear()
        why_empty = NOTHING_ENFORCED
    present = {row["series"] for row in points.rows}
    shown = [one for one in series if one.name in present]
    return make_figure(
        text,
        points.summary,
        points.rows,
        lambda: curves(points.rows, shown, axis_title, memory_sizes_mb),
        QUANTITY | {"value": "Value", "low": "Low", "high": "High", "n": "n"},
        shown,
        notes=points.notes,
        why_empty=why_empty,
    )


def spreads(rows: Sequence[Row], series: Sequence[Series], axis_title: str) -> Spec:
    """Whiskers p5 to p95, box p25 to p75 and median, side by side by series at each memory size."""
    sizes = len({row["memory_mb"] for row in rows})
    box_px = max(2, min(13, WIDE_PLOT_PX // max(1, sizes * len(series))))
    axis = value_axis(rows, axis_title, ("p5", "p95"))
    base = {
        "x": memory_categories(),
        "xOffset": category("name", scale={"domain": [one.name for one in series]}),
        "color": colors(series, "name"),
    }
    low, quarter, median = (base | {"y": quantity(key, **axis)} for key in ("p5", "p25", "p50"))
    whiskers = low | {"y2": {"field": "p95"}}
    hover = tooltip(FUNCTION | {"text": "p5, p25, p50, p75, p95", "range": "All", "n": "n"})
    return {
        "layer": [
            mark("rule", whiskers, strokeWidth=1.6),
            mark("bar", quarter | {"y2": {"field": "p75"}}, size=box_px, opacity=0.4),
            mark("point", median | {"shape": shapes(series, "name")}, filled=True, size=44, opacity=1),
            # A box a pixel high is no target for a pointer; this one is.
            mark("rule", whiskers | {"tooltip": hover}, strokeWidth=box_px + 5, opacity=0) | {"name": HOVER},
        ]
    }


def stacks(series: Sequence[Series], axis_title: str) -> Spec:
    """Bars by memory size, stacked in the order of the legend."""
    encoding = {
        "x": memory_categories(),
        "y": quantity("value", stack="zero", axis={"title": axis_title, "tickCount": 6, "format": ",~r"}),
        "color": colors(series),
        "order": quantity("place"),
        "tooltip": tooltip(FUNCTION | {"series": "Part", "text": "Mean", "n": "n"}),
    }
    return mark("bar", encoding, stroke="@paper", strokeWidth=1.5, size=38)
