"""The figures: from a summary and the invocations to charts, and from charts to SVG, PNG and CSV.

What is drawn is aggregated first, so a figure's size does not grow with the number of invocations. A value that could
not be estimated is named below the title with its reason, never drawn as 0. Every figure carries the badge of its
origin inside the picture, so a copy of it cannot pass for something else.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import altair as alt
import polars as pl
import vl_convert

from analysis.summary import Estimate, Summary
from analysis.theme import (
    CONFIG,
    LIGHT,
    MODEL_DASHES,
    MODEL_SHAPES,
    SERIES_DASHES,
    SERIES_SHAPES,
    Theme,
    model_colour,
    paint,
)
from benchmark.matrix import DISPLAY_NAMES, MEMORY_MB_PER_VCPU, Variant
from benchmark.records import Experiment, StartType

Row = dict[str, Any]

NO_NUMBER: Final = "\N{EN DASH}"
WIDTH_PX: Final = 660
HEIGHT_PX: Final = 320
PNG_SCALE: Final = 2.0
SUBTITLE_CHARACTERS: Final = 112
MAX_NOTES_IN_PICTURE: Final = 3
MAX_TIME_BINS: Final = 120
LOG_SCALE_FROM_RATIO: Final = 12.0  # a linear axis would press the smaller values flat
GATEWAY_TIMEOUT_MS: Final = 29_000

# The paper's own order of its figures by model.
WARM_FIGURES: Final = {"inceptionv3": 4, "mobilenet": 5, "resnet50": 6}
COLD_FIGURES: Final = {"inceptionv3": 7, "resnet50": 8, "mobilenet": 9}
LOAD_FIGURES: Final = {"inceptionv3": 10, "resnet50": 11, "mobilenet": 12}


@dataclass(frozen=True)
class Column:
    """A column of the table and the CSV behind a figure."""

    key: str
    label: str
    numeric: bool = True


@dataclass(frozen=True)
class Figure:
    """A chart with the data behind it. `chart` is a Vega-Lite specification whose colours are tokens of the theme."""

    id: str  # file name without suffix, for example `fig04_warm_inceptionv3`
    label: str  # "Figure 4", or "" for one the paper does not have
    title: str
    caption: str
    section: str  # part of the report it belongs to
    experiments: tuple[str, ...]
    models: tuple[str, ...]
    chart: dict[str, Any]
    rows: list[Row]
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()
    detail: str = ""
    why_empty: str = ""  # set where there is nothing to draw: the picture says it

    @property
    def heading(self) -> str:
        return f"{self.label}. {self.title}" if self.label else self.title

    @property
    def empty(self) -> bool:
        return not self.rows


@dataclass(frozen=True)
class _Series:
    """One entry of a legend: its name, colour token, dash and shape."""

    name: str
    colour: str
    dash: Sequence[int]
    shape: str


@dataclass
class _Points:
    """Rows of a figure as they gather, and what could not be drawn."""

    summary: Summary
    rows: list[Row] = field(default_factory=list)
    gaps: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # (variant, reason) -> series

    def add(
        self,
        variant: Variant,
        where: tuple[Experiment, StartType],
        series: str,
        metric: str,
        percentile: str = "p50",
        *,
        gaps: bool = True,
    ) -> None:
        """Add the estimate of one cell's metric, or (`gaps`) a note why there is none."""
        cell = self.summary.cell(variant.key, *where)
        distribution = cell.metrics.get(metric) if cell is not None else None
        estimate: Estimate | None = getattr(distribution, percentile) if distribution is not None else None
        if estimate is None or estimate.value is None:
            if gaps:
                self.gap(variant, series, missing_reason(self.summary, variant, where, estimate))
        else:
            unit = distribution.unit if distribution else "ms"
            self.add_estimate(variant, series, estimate, unit=unit, experiment=where[0])

    def gap(self, variant: Variant, series: str, reason: str) -> None:
        self.gaps.setdefault((variant_name(variant), reason), []).append(series)

    @property
    def notes(self) -> list[str]:
        """One sentence a function; the quantity is named only where the function's others are drawn."""
        drawn = {(variant_name_of(row), row["series"]) for row in self.rows}
        notes: dict[str, list[str]] = {}
        for (name, reason), series in self.gaps.items():
            others = any(key[0] == name and key[1] not in series for key in drawn)
            notes.setdefault(name, []).append(f"{' and '.join(series)}: {reason}" if others else reason)
        return [f"{name}, {'; '.join(reasons)}" for name, reasons in notes.items()]

    def add_estimate(
        self, variant: Variant, series: str, estimate: Estimate, *, unit: str, experiment: str = ""
    ) -> None:
        if estimate.low is None or estimate.high is None:
            self.gap(variant, series, f"no interval, {estimate.reason or 'too few samples'}")
        self.rows.append(
            {
                "experiment": experiment,
                "model": variant.model,
                "name": model_name(variant.model),
                "memory_mb": variant.memory_mb,
                "series": series,
                "value": rounded(estimate.value),
                "low": rounded(estimate.low),
                "high": rounded(estimate.high),
                "n": estimate.n,
                "text": estimate_text(estimate, unit),
            }
        )


# ---------------------------------------------------------------------------------------------------------------------
# Names and numbers for people


def parse_variant(key: str) -> Variant:
    """A variant from its key, for example `resnet50-tensorflow-x86_64-1024`."""
    model, engine, architecture, memory_mb = key.rsplit("-", 3)
    return Variant(model=model, engine=engine, architecture=architecture, memory_mb=int(memory_mb))


def model_name(model: str) -> str:
    return DISPLAY_NAMES.get(model, model)


def variant_name(variant: Variant) -> str:
    return f"{model_name(variant.model)} {variant.memory_mb:,} MB"


def rounded(value: float | None) -> float | None:
    """Five significant digits: finer than any interval here, and half the bytes."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def number_text(value: float | None, *, digits: int = 3) -> str:
    """A number with `digits` significant digits and thousands separated; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text and decimals > digits else text


def estimate_text(estimate: Estimate, unit: str) -> str:
    """`57.3 ms (55.1 to 60.2)`, or the value and why it has no interval."""
    value = f"${number_text(estimate.value)}" if unit == "USD" else f"{number_text(estimate.value)} {unit}"
    if estimate.low is None or estimate.high is None:
        return f"{value} (no interval: {estimate.reason or 'too few samples'})"
    return f"{value} ({number_text(estimate.low)} to {number_text(estimate.high)})"


def variant_name_of(row: Row) -> str:
    return f"{row['name']} {row['memory_mb']:,} MB"


def missing_reason(
    summary: Summary, variant: Variant, where: tuple[Experiment, StartType], estimate: Estimate | None
) -> str:
    """Why there is no number, in a few words: what the experiment's calls came to, if none was ok."""
    experiment, start_type = where
    outcomes: Counter[str] = Counter()
    for cell in summary.cells:
        if cell.variant == variant.key and cell.experiment == experiment:
            outcomes.update(cell.outcomes)
    if outcomes and not outcomes["ok"]:
        outcome, count = outcomes.most_common(1)[0]
        return f"{count:,} of {outcomes.total():,} {experiment} calls {outcome.replace('_', ' ')}"
    if estimate is not None and estimate.reason:
        return estimate.reason
    if not outcomes:
        return "not measured"
    return f"no {start_type} sample among {outcomes.total():,}"


# ---------------------------------------------------------------------------------------------------------------------
# Building blocks of charts


def _wrapped(text: str, width: int = SUBTITLE_CHARACTERS) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]


def _notes_line(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    rest = len(notes) - MAX_NOTES_IN_PICTURE
    return (
        "Not shown or without interval: "
        + "; ".join(notes[:MAX_NOTES_IN_PICTURE])
        + (f"; and {rest} more" if rest > 0 else "")
    )


def _titled(chart: Any, summary: Summary, heading: str, detail: str, notes: Sequence[str]) -> dict[str, Any]:
    """The finished specification: size, title, badge and notes."""
    subtitle = [line for text in (summary.origin.badge, detail, _notes_line(notes)) for line in _wrapped(text)]
    title = alt.TitleParams(text=_wrapped(heading, 84), subtitle=subtitle)
    spec: dict[str, Any] = chart.properties(width=WIDTH_PX, height=HEIGHT_PX, title=title).to_dict()
    spec.pop("config", None)  # the theme's is put in when it is drawn
    for layer in spec.get("layer", [spec]):
        # A mark without data is drawn once; altair's name for its absence would find no data set.
        if layer.get("data") == {"name": "empty"}:
            layer["data"] = {"values": [{}]}
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["description"] = f"{heading}. {summary.origin.badge}."
    return spec


def _with_rows(spec: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    return spec | {"datasets": {"rows": rows}}


def _data() -> Any:
    return alt.NamedData(name="rows")


def _nice_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: decades with 2 and 5 between, decades alone where there are more than three."""
    if not (low > 0 and high > 0):
        return []
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 4 else (1, 3) if last - first > 2 else (1, 2, 5)
    return [step * 10.0**power for power in range(first, last + 1) for step in steps]


def _value_axis(rows: Sequence[Row], title: str, *, keys: Sequence[str] = ("value", "low", "high")) -> tuple[Any, Any]:
    """Scale and axis that suit the values: linear from 0, or logarithmic where they span more than a decade."""
    values = [row[key] for row in rows for key in keys if row.get(key) is not None]
    positive = [value for value in values if value > 0]
    if positive and len(positive) == len(values) and max(positive) / min(positive) > LOG_SCALE_FROM_RATIO:
        axis = alt.Axis(title=f"{title}, logarithmic", values=_nice_ticks(min(positive), max(positive)), format=",~r")
        return alt.Scale(type="log", nice=False, padding=12), axis
    return alt.Scale(type="linear", zero=True, nice=True), alt.Axis(title=title, tickCount=6, format=",~r")


def _memory_axis(memory_sizes_mb: Iterable[int]) -> dict[str, Any]:
    """Scale and axis that put memory sizes where they are, each one labelled where there is room."""
    sizes = sorted(set(memory_sizes_mb))
    margin = max((sizes[-1] - sizes[0]) * 0.04, 64)
    return {
        "scale": alt.Scale(domain=[sizes[0] - margin, sizes[-1] + margin], nice=False, zero=False),
        "axis": alt.Axis(title="Memory size, MB", values=sizes, format="d", labelOverlap="greedy", labelSeparation=3),
    }


def _one_vcpu_rule(memory_sizes_mb: Iterable[int]) -> list[Any]:
    """A thin line at 1769 MB, where the CPU share reaches one vCPU, if the axis reaches beyond it."""
    sizes = sorted(set(memory_sizes_mb))
    if not sizes[0] < MEMORY_MB_PER_VCPU < sizes[-1]:
        return []
    x = alt.XDatum(MEMORY_MB_PER_VCPU, **_memory_axis(sizes))
    label = {"color": "@quiet", "align": "left", "baseline": "top", "dx": 4, "fontSize": 10, "text": "1 vCPU"}
    return [
        alt.Chart().mark_rule(color="@grid", strokeWidth=1).encode(x=x),
        alt.Chart().mark_text(**label).encode(x=x, y=alt.value(2)),
    ]


def _line_of(base: Any, one: _Series, **style: Any) -> Any:
    """The line of one series. Dashes are set here rather than by a scale, which would draw them round the symbols of
    the legend.
    """
    mine = alt.FieldEqualPredicate(field="series", equal=one.name)
    return base.mark_line(strokeDash=list(one.dash), **style).transform_filter(mine)


def _colours(series: Sequence[_Series]) -> Any:
    names = [one.name for one in series]
    return alt.Color("series:N", scale=alt.Scale(domain=names, range=[one.colour for one in series]))


def _shapes(series: Sequence[_Series]) -> Any:
    names = [one.name for one in series]
    return alt.Shape("series:N", scale=alt.Scale(domain=names, range=[one.shape for one in series]))


def _tooltip(*pairs: tuple[str, str]) -> list[Any]:
    return [alt.Tooltip(field=key, type="nominal", title=label) for key, label in pairs]


LINE_SYMBOLS: Final = {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolOpacity": 1}

POINT_TOOLTIP: Final = (
    ("name", "Model"),
    ("memory_mb", "Memory, MB"),
    ("series", "Quantity"),
    ("text", "Value (95 % interval)"),
    ("n", "n"),
)


def _curves(rows: Sequence[Row], series: Sequence[_Series], axis_title: str, memory_sizes_mb: Iterable[int]) -> Any:
    """Lines over memory size with points and intervals."""
    scale, axis = _value_axis(rows, axis_title)
    x = alt.X("memory_mb:Q", **_memory_axis(memory_sizes_mb))
    y = alt.Y("value:Q", scale=scale, axis=axis)
    base = alt.Chart(_data()).encode(x=x, color=_colours(series))
    interval = base.mark_rule().encode(y=alt.Y("low:Q", scale=scale, axis=axis), y2="high:Q")
    cap_low = base.mark_tick(size=9, thickness=1.4, orient="horizontal").encode(
        y=alt.Y("low:Q", scale=scale, axis=axis)
    )
    cap_high = base.mark_tick(size=9, thickness=1.4, orient="horizontal").encode(
        y=alt.Y("high:Q", scale=scale, axis=axis)
    )
    lines = [_line_of(base, one).encode(y=y) for one in series]
    point = base.mark_point(filled=True, opacity=1).encode(y=y, shape=_shapes(series), tooltip=_tooltip(*POINT_TOOLTIP))
    return alt.layer(*_one_vcpu_rule(memory_sizes_mb), interval, cap_low, cap_high, *lines, point)


def _nothing(text: str) -> Any:
    """A picture that says why there is no figure."""
    return alt.Chart().mark_text(text=text, color="@quiet", fontSize=14, align="left", x=0, y=24)


ESTIMATE_COLUMNS: Final = (
    Column("name", "Model", numeric=False),
    Column("memory_mb", "Memory, MB"),
    Column("series", "Quantity", numeric=False),
    Column("value", "Median, ms"),
    Column("low", "Low"),
    Column("high", "High"),
    Column("n", "n"),
)


@dataclass(frozen=True)
class _Text:
    """Words of a figure, apart from its data."""

    id: str
    label: str
    title: str
    caption: str
    section: str
    experiments: tuple[str, ...]
    models: tuple[str, ...]
    detail: str = ""


def _figure(
    text: _Text,
    summary: Summary,
    rows: list[Row],
    draw: Callable[[], Any],
    columns: tuple[Column, ...],
    notes: Sequence[str] = (),
    *,
    legend: Sequence[str] = (),
    legend_style: dict[str, Any] | None = None,
    why_empty: str = "",
    height_px: int = HEIGHT_PX,
) -> Figure:
    """Put words, data and chart together; without rows the picture says why."""
    heading = f"{text.label}. {text.title}" if text.label else text.title
    if rows:
        spec = _titled(draw(), summary, heading, text.detail, notes)
        spec["height"] = height_px
        spec["config"] = {"legend": {"columns": _legend_columns(legend)} | (legend_style or {})}
    else:
        spec = _titled(_nothing(f"No data: {why_empty or 'nothing was measured'}."), summary, heading, "", notes)
        spec["height"] = 48
    return Figure(
        id=text.id,
        label=text.label,
        title=text.title,
        caption=text.caption,
        section=text.section,
        experiments=text.experiments,
        models=text.models,
        chart=_with_rows(spec, rows),
        rows=rows,
        columns=columns,
        notes=tuple(notes),
        legend=tuple(legend),
        detail=text.detail,
        why_empty="" if rows else why_empty or "nothing was measured",
    )


def _legend_columns(legend: Sequence[str]) -> int:
    """As many entries side by side as the picture's width holds."""
    if not legend:
        return 1
    return max(1, min(len(legend), WIDTH_PX // legend_entry_px(legend)))


def legend_entry_px(legend: Sequence[str]) -> int:
    """Width of the widest entry, by the mean advance of a 12 px sans serif."""
    return 6 * max((len(name) for name in legend), default=0) + 48


def _sample_range(rows: Iterable[Row]) -> str:
    counts = sorted({row["n"] for row in rows if row.get("n") is not None})
    if not counts:
        return ""
    return f"n = {counts[0]:,}" if len(counts) == 1 else f"n = {counts[0]:,} to {counts[-1]:,}"


def _why_no(summary: Summary, experiment: str) -> str:
    if experiment not in summary.experiments:
        return f"the {experiment} experiment is not part of this run"
    return f"the {experiment} experiment left no sample to estimate from"


# ---------------------------------------------------------------------------------------------------------------------
# The paper's figures


def request_rate(summary: Summary) -> Figure:
    """Figure 1: the rate offered, and the rate answered, over the time of the load test."""
    rows = _load_rates(summary)
    text = _Text(
        id="fig01_request_rate",
        label="Figure 1",
        title="Request rate of the load test, offered and answered",
        caption=(
            "Offered: requests by the second they were due, whether or not the generator could send them. Answered: "
            "responses by the second they came. One answered line for each function; where it leaves the offered "
            "line, the load was not carried."
        ),
        section="load",
        experiments=("load",),
        models=_models(summary),
        detail="Offered rate as the broad line; answered rate by function, coloured by model",
    )

    offered, *answered = (_Series("Offered", "@band", [1, 0], ""), *_model_series(_models(summary)))

    def draw() -> Any:
        base = alt.Chart(_data()).encode(
            x=alt.X("second:Q", axis=alt.Axis(title="Time since the start of the load test, s", tickMinStep=1)),
            y=alt.Y("rps:Q", axis=alt.Axis(title="Requests a second"), scale=alt.Scale(zero=True, nice=True)),
            detail="variant:N",
            color=_colours([offered, *answered]),
            tooltip=_tooltip(("series", "Rate"), ("variant", "Function"), ("second", "Second"), ("rps", "Requests/s")),
        )
        # The offered rate is a broad road; the answered lines keep to it or leave it.
        return alt.layer(
            _line_of(base, offered, strokeWidth=9, opacity=0.35, strokeCap="round"),
            *(_line_of(base, one, strokeWidth=1.6) for one in answered),
        )

    columns = (
        Column("variant", "Function", numeric=False),
        Column("series", "Rate", numeric=False),
        Column("second", "Second"),
        Column("rps", "Requests/s"),
    )
    return _figure(
        text,
        summary,
        rows,
        draw,
        columns,
        legend=["Offered", *(one.name for one in answered)],
        legend_style=LINE_SYMBOLS,
        why_empty=_why_no(summary, "load"),
    )


def _load_rates(summary: Summary) -> list[Row]:
    """Offered and answered rate in at most MAX_TIME_BINS bins for each variant; the offered line once for all."""
    if not summary.load_seconds:
        return []
    width_s = _bin_width_s(summary)
    frame = pl.DataFrame(
        {
            "variant": [second.variant for second in summary.load_seconds],
            "bin": [second.second // width_s for second in summary.load_seconds],
            "offered": [second.offered for second in summary.load_seconds],
            "answered": [second.answered for second in summary.load_seconds],
        }
    )
    by_variant = frame.group_by("variant", "bin").agg(pl.col("offered", "answered").sum() / width_s)
    rows: list[Row] = []
    offered = by_variant.group_by("bin").agg(pl.col("offered").mean()).sort("bin")
    for index, rate in offered.iter_rows():
        rows.append(
            {
                "model": "",
                "variant": "all functions, mean",
                "memory_text": "",
                "memory_mb": None,
                "series": "Offered",
                "second": index * width_s,
                "rps": rounded(rate),
            }
        )
    for key in summary.variants:
        variant = parse_variant(key)
        mine = by_variant.filter(pl.col("variant") == key).sort("bin")
        rows.extend(
            {
                "model": variant.model,
                "variant": variant_name(variant),
                "memory_text": f"{variant.memory_mb:,} MB",
                "memory_mb": variant.memory_mb,
                "series": model_name(variant.model),
                "second": row["bin"] * width_s,
                "rps": rounded(row["answered"]),
            }
            for row in mine.iter_rows(named=True)
        )
    return rows


def _bin_width_s(summary: Summary) -> int:
    last = max((second.second for second in summary.load_seconds), default=0)
    return max(1, math.ceil((last + 1) / MAX_TIME_BINS))


def warm(summary: Summary, model: str) -> Figure:
    """Figures 4 to 6: API latency and inference time against memory, warm."""
    name = model_name(model)
    points = _Points(summary)
    series = (
        _Series("API latency", model_colour(model, 0), [1, 0], "circle"),
        _Series("Inference time", model_colour(model, 0), [5, 3], "square"),
    )
    for variant in _variants(summary, model):
        points.add(variant, ("warm", "warm"), "API latency", "client_latency_ms")
        points.add(variant, ("warm", "warm"), "Inference time", "inference_ms")
    number = WARM_FIGURES.get(model)
    text = _Text(
        id=f"fig{number:02d}_warm_{model}" if number else f"warm_{model}",
        label=f"Figure {number}" if number else "",
        title=f"{name}, warm: time against memory",
        caption=(
            "API latency is the client's, from request to response over the REST endpoint. Inference time is the "
            "forward pass alone, timed inside the function. The distance between the two is gateway, network, image "
            "decoding and the platform."
        ),
        section="warm",
        experiments=("warm",),
        models=(model,),
        detail=f"Median with 95 % interval, {_sample_range(points.rows)}" if points.rows else "",
    )
    return _curve_figure(text, summary, points, series, "warm")


def cold_against_warm(summary: Summary, model: str) -> Figure:
    """Figures 7 to 9: what a cold start takes beside a warm call, both by the platform's clock."""
    name = model_name(model)
    points = _Points(summary)
    series = (
        _Series("Cold start: init and duration", model_colour(model, 0), [1, 0], "diamond"),
        _Series("Warm call: duration", "@reference", [5, 3], "circle"),
    )
    for variant in _variants(summary, model):
        points.add(variant, ("cold", "cold"), series[0].name, "total_ms")
        points.add(variant, ("warm", "warm"), series[1].name, "total_ms")
    number = COLD_FIGURES.get(model)
    text = _Text(
        id=f"fig{number:02d}_cold_{model}" if number else f"cold_{model}",
        label=f"Figure {number}" if number else "",
        title=f"{name}: cold start against warm call",
        caption=(
            "Both are the platform's own times, so they compare: for a cold start init and duration together, for a "
            "warm call duration alone. Scheduled cold starts have no client, hence no API latency."
        ),
        section="cold",
        experiments=("cold", "warm"),
        models=(model,),
        detail=f"Median with 95 % interval, {_sample_range(points.rows)}" if points.rows else "",
    )
    return _curve_figure(text, summary, points, series, "cold")


def load(summary: Summary, model: str) -> Figure:
    """Figures 10 to 12: latency and inference time under load, beside the warm latency."""
    name = model_name(model)
    points = _Points(summary)
    colour = model_colour(model, 0)
    series = (
        _Series("API latency under load, median", colour, [1, 0], "circle"),
        _Series("API latency under load, p95", colour, [7, 3], "triangle-up"),
        _Series("Inference time under load", colour, [2, 2], "square"),
        _Series("API latency, warm", "@reference", [5, 3], "diamond"),
    )
    for variant in _variants(summary, model):
        points.add(variant, ("load", "warm"), series[0].name, "latency_from_intended_ms")
        points.add(variant, ("load", "warm"), series[1].name, "latency_from_intended_ms", "p95")
        points.add(variant, ("load", "warm"), series[2].name, "inference_ms")
        points.add(variant, ("warm", "warm"), series[3].name, "client_latency_ms", gaps=False)
    number = LOAD_FIGURES.get(model)
    text = _Text(
        id=f"fig{number:02d}_load_{model}" if number else f"load_{model}",
        label=f"Figure {number}" if number else "",
        title=f"{name} under load: time against memory",
        caption=(
            "Latency under load counts from the moment a request was due, not from when a busy generator came to send "
            "it. Warm calls of the load test alone; its cold starts are counted in the tables. The grey line is the "
            "latency of single warm calls."
        ),
        section="load",
        experiments=("load",),
        models=(model,),
        detail=f"With 95 % intervals, {_sample_range(points.rows)}" if points.rows else "",
    )
    if not any(row["series"] != series[3].name for row in points.rows):
        points.rows.clear()  # the reference alone is no figure of the load test
    return _curve_figure(text, summary, points, series, "load")


def by_model(
    summary: Summary,
    *,
    number: int,
    stem: str,
    title: str,
    caption: str,
    cell_of: tuple[Experiment, StartType],
    metric: str,
) -> Figure:
    """Figures 14 to 16: one quantity of all models against memory."""
    points = _Points(summary)
    models = _models(summary)
    for key in summary.variants:
        variant = parse_variant(key)
        points.add(variant, cell_of, model_name(variant.model), metric)
    text = _Text(
        id=f"fig{number:02d}_{stem}",
        label=f"Figure {number}",
        title=title,
        caption=caption,
        section=cell_of[0],
        experiments=(cell_of[0],),
        models=models,
        detail=f"Median with 95 % interval, {_sample_range(points.rows)}" if points.rows else "",
    )
    return _curve_figure(text, summary, points, _model_series(models), cell_of[0])


def _curve_figure(text: _Text, summary: Summary, points: _Points, series: Sequence[_Series], experiment: str) -> Figure:
    present = {row["series"] for row in points.rows}
    shown = [one for one in series if one.name in present]
    sizes = [parse_variant(key).memory_mb for key in summary.variants]

    def draw() -> Any:
        return _curves(points.rows, shown, "ms", sizes)

    return _figure(
        text,
        summary,
        points.rows,
        draw,
        ESTIMATE_COLUMNS,
        points.notes,
        legend=[one.name for one in shown],
        why_empty=_why_no(summary, experiment),
    )


def _models(summary: Summary) -> tuple[str, ...]:
    return tuple(dict.fromkeys(parse_variant(key).model for key in summary.variants))


def _variants(summary: Summary, model: str) -> list[Variant]:
    return [variant for key in summary.variants if (variant := parse_variant(key)).model == model]


def _model_series(models: Sequence[str]) -> tuple[_Series, ...]:
    return tuple(
        _Series(
            model_name(model),
            model_colour(model, index),
            MODEL_DASHES.get(model, SERIES_DASHES[index % 5]),
            MODEL_SHAPES.get(model, SERIES_SHAPES[index % 5]),
        )
        for index, model in enumerate(models)
    )


# ---------------------------------------------------------------------------------------------------------------------
# All of them


def build_figures(summary: Summary, invocations: pl.DataFrame) -> list[Figure]:
    """Every figure of a run in the order of the report; pure."""
    del invocations
    models = _models(summary)
    figures = [request_rate(summary)]
    figures += [warm(summary, model) for model in models]
    figures.append(
        by_model(
            summary,
            number=14,
            stem="api_latency_warm",
            title="API latency of warm calls, all models",
            caption="The client's time from request to response over the REST endpoint, for warm calls.",
            cell_of=("warm", "warm"),
            metric="client_latency_ms",
        )
    )
    figures.append(
        by_model(
            summary,
            number=16,
            stem="inference_time",
            title="Inference time, all models",
            caption="The forward pass alone, timed inside the function, for warm calls.",
            cell_of=("warm", "warm"),
            metric="inference_ms",
        )
    )
    figures += [cold_against_warm(summary, model) for model in models]
    figures.append(
        by_model(
            summary,
            number=15,
            stem="latency_cold",
            title="Latency of cold starts, all models",
            caption="Init and duration together, by the platform's clock.",
            cell_of=("cold", "cold"),
            metric="total_ms",
        )
    )
    figures += [load(summary, model) for model in models]
    return figures


# ---------------------------------------------------------------------------------------------------------------------
# Drawing


def svg(figure: Figure, theme: Theme = LIGHT) -> str:
    """The figure as an SVG document, drawn without a browser."""
    config = {**CONFIG, "legend": CONFIG["legend"] | figure.chart.get("config", {}).get("legend", {})}
    chart = paint({**figure.chart, "config": config}, theme)
    drawn: str = vl_convert.vegalite_to_svg(chart, vl_version=VEGA_LITE_VERSION, allowed_base_urls=[])
    return drawn


def png(drawn: str) -> bytes:
    """An SVG document as a PNG of twice its size."""
    data: bytes = vl_convert.svg_to_png(drawn, scale=PNG_SCALE)
    return data


def csv_text(figure: Figure) -> str:
    """The data behind a figure, one row a drawn value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.key for column in figure.columns])
    for row in figure.rows:
        writer.writerow(["" if row.get(column.key) is None else row[column.key] for column in figure.columns])
    return file.getvalue()


def chart_json(figure: Figure) -> str:
    """The chart as JSON; a NaN or an infinity in it is an error of ours and raises ValueError."""
    return json.dumps(figure.chart, allow_nan=False, sort_keys=True, separators=(",", ":"))


VEGA_LITE_VERSION: Final = "6.4"  # altair 6 writes for it
