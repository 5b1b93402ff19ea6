"""Figures of cost, memory and outcomes: what a choice is made by."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

from analysis.report.figures.marks import (
    FUNCTION,
    HEIGHT_PX,
    Figure,
    Points,
    Row,
    Series,
    Spec,
    category,
    colors,
    curve_figure,
    image_series,
    make_figure,
    mark,
    memory_series,
    quantity,
    row_of,
    shapes,
    sizes_tell_apart,
    tooltip,
    value_axis,
)
from analysis.report.figures.shared import by_image, figure_text, image_text, memory_sizes_of
from analysis.report.wording import (
    STRATEGY_NAMES,
    missing_reason,
    number_text,
    percent_text,
    rounded,
    usd_text,
)
from analysis.summary import NOTHING_ENFORCED, Summary
from core.variants import Image, Variant


def cost_per_million(summary: Summary, start_type: Literal["cold", "warm"]) -> Figure:
    """USD per million predictions against memory."""
    points = Points(summary)
    for cost in summary.costs:
        if cost.start_type != start_type:
            continue
        variant = summary.variants[cost.variant]
        if cost.usd.value is None:
            points.gap(variant, start_type, missing_reason(summary, variant, start_type, cost.usd))
        else:
            points.add_estimate(variant, variant.image.display_name, cost.usd, unit="USD", experiment=start_type)
    text = figure_text(
        "cost_per_million",
        summary.images,
        points,
        name=f"cost_per_million_{start_type}",
        start_type=start_type,
        cold=" A million cold predictions is the price of every call being cold, not of a mixed month."
        if start_type == "cold"
        else "",
        prices=summary.prices,
    )
    why_empty = "no call that succeeded, so none to price"
    return curve_figure(text, points, image_series(summary), "USD", memory_sizes_of(summary), why_empty)


STRATEGY_SERIES: Final = (
    Series(STRATEGY_NAMES["on_demand"], "@series1"),
    Series(STRATEGY_NAMES["provisioned_concurrency"], "@series2", (7, 3), "square"),
    Series(STRATEGY_NAMES["warm_pings"], "@series3", (2, 2), "triangle-up"),
    Series(STRATEGY_NAMES["snapstart"], "@series4", (6, 2, 2, 2), "diamond"),
)


def monthly_by_strategy(summary: Summary, image: Image) -> Figure:
    """USD per month of each of an image's memory sizes by the way of keeping environments warm."""
    points = Points(summary)
    for month in summary.monthly:
        variant = summary.variants[month.variant]
        if variant.image != image:
            continue
        name = STRATEGY_NAMES[month.strategy]
        if month.usd is None:
            points.gap(variant, name, month.reason or "no price")
            continue
        cold = percent_text(month.expected_cold_share)
        points.rows.append(
            {
                **row_of(variant),
                "series": name,
                "value": rounded(month.usd),
                "low": None,
                "high": None,
                "n": round(month.requests),
                "text": f"{usd_text(month.usd)} for {month.requests:,.0f} requests, {cold} cold",
            }
        )
    text = image_text("monthly_cost", image)
    return curve_figure(text, points, STRATEGY_SERIES, "USD per month", memory_sizes_of(summary), "no call succeeded")


def cost_against_latency(summary: Summary) -> Figure:
    """The plane in which one chooses: cost and latency of every function, and which of them nothing beats."""
    series = image_series(summary)
    rows: list[Row] = []
    comparable = sizes_tell_apart(summary)
    for point in summary.pareto if comparable else ():
        variant = summary.variants[point.variant]
        recommended = point.variant == summary.recommendation.variant
        rows.append(
            {
                **row_of(variant),
                "usd": rounded(point.usd_per_million),
                "latency_ms": rounded(point.latency_ms),
                "accuracy": point.top1_accuracy,
                "front": "on the front" if point.on_front else "dominated",
                "recommended": "recommended" if recommended else "",
                "label": f"{variant.memory_mb}",
                "text": f"{usd_text(point.usd_per_million)}, {number_text(point.latency_ms)} ms",
            }
        )

    def draw() -> Spec:
        x = value_axis(rows, "USD per million predictions, warm", ("usd",), zero=False)
        y = value_axis(rows, "Median latency, ms", ("latency_ms",), zero=False)
        base = {"x": quantity("usd", **x), "y": quantity("latency_ms", **y)}
        hover = tooltip(
            FUNCTION
            | {"text": "Per million, median latency", "accuracy": "Top-1 accuracy (quoted)", "front": "Pareto front"}
        )
        point = base | {"color": colors(series, "name"), "shape": shapes(series, "name"), "tooltip": hover}
        front, dominated, chosen = ("front", "on the front"), ("front", "dominated"), ("recommended", "recommended")
        label = base | {"text": category("label")}
        return {
            "layer": [
                mark("point", base, where=chosen, size=420, color="@good", strokeWidth=2.5, opacity=1),
                mark("point", point, where=dominated, filled=False, size=80, opacity=1, fill="@paper"),
                mark("point", point, where=front, filled=True, size=110, opacity=1),
                mark("text", label, where=front, align="left", dx=9, dy=-7, fontSize=10, color="@quiet"),
            ]
        }

    columns = {"usd": "USD per million", "latency_ms": "Median latency, ms", "accuracy": "Top-1 accuracy"}
    return make_figure(
        figure_text("cost_against_latency", summary.images),
        summary,
        rows,
        draw,
        FUNCTION | columns | {"front": "Pareto front"},
        series,
        why_empty="no warm call succeeded" if comparable else NOTHING_ENFORCED,
        height_px=HEIGHT_PX + 40,
    )


def memory_used(summary: Summary) -> Figure:
    """How much of its memory a function takes, against what it has."""
    return by_image(summary, "memory_used", summary.images, ("warm", "warm"), "max_memory_used_mb")


def swapping(summary: Summary, image: Image) -> Figure:
    """Claim C11: CPU share and memory varied apart from each other."""
    points = Points(summary)
    cells = [cell for cell in summary.swapping if Image(cell.model, cell.engine, cell.architecture) == image]
    shares = sorted({cell.vcpu for cell in cells})
    series = tuple(
        Series(f"{number_text(share)} vCPU", f"@series{index % 5 + 1}", memory.dash, memory.shape)
        for index, (share, memory) in enumerate(zip(shares, memory_series([0] * len(shares)), strict=True))
    )
    sizes = sorted({cell.memory_mb for cell in cells})
    for cell in cells:
        variant = Variant(image.model, image.engine, image.architecture, cell.memory_mb)
        name = f"{number_text(cell.vcpu)} vCPU"
        if cell.inference_ms.value is None:
            killed = f"{cell.killed:,} calls killed for their memory" if cell.killed else ""
            points.gap(variant, name, killed or cell.inference_ms.reason or "no sample")
        else:
            points.add_estimate(variant, name, cell.inference_ms, unit="ms")
    text = image_text("swapping", image, points)
    return curve_figure(text, points, series, "ms", sizes, "no call succeeded")


OUTCOME_GROUPS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("ok", "@ok", ("ok",)),
    ("out of memory", "@series2", ("out_of_memory",)),
    ("timed out", "@series4", ("timeout", "init_timeout", "gateway_timeout")),
    ("throttled", "@series1", ("throttled",)),
    ("dropped or missing", "@series5", ("dropped", "missing", "pending")),
    ("error", "@bad", ("error", "connection")),
)


def outcomes(summary: Summary) -> Figure:
    """How the calls of each function ended."""
    rows: list[Row] = []
    for variant in summary.variants.values():
        counts: Counter[str] = Counter()
        for cell in summary.cells:
            if cell.variant == variant.key and cell.start_type != "any":
                counts.update(cell.outcomes)
        total = counts.total()
        for place, (name, _, members) in enumerate(OUTCOME_GROUPS):
            count = sum(counts[member] for member in members)
            if count:
                rows.append(
                    {
                        **row_of(variant),
                        "name": variant.display_name,
                        "series": name,
                        "place": place,
                        "value": rounded(count / total),
                        "count": count,
                        "text": f"{count:,} of {total:,} ({percent_text(count / total)})",
                    }
                )
    present = {row["series"] for row in rows}
    series = [Series(name, color) for name, color, _ in OUTCOME_GROUPS if name in present]

    def draw() -> Spec:
        names = [variant.display_name for variant in summary.variants.values()]
        axis = {"title": None, "domain": False, "ticks": False, "labelLimit": 220, "grid": False}
        encoding = {
            "y": category("name", sort=names, axis=axis),
            "x": quantity("value", stack="zero", scale={"domain": [0, 1]}, axis={"title": None, "format": "%"}),
            "color": colors(series),
            "order": quantity("place"),
            "tooltip": tooltip({"name": "Function", "series": "Outcome", "text": "Calls"}),
        }
        return mark("bar", encoding, stroke="@paper", strokeWidth=1)

    return make_figure(
        figure_text("outcomes", summary.images),
        summary,
        rows,
        draw,
        {"name": "Function", "series": "Outcome", "count": "Calls", "value": "Share"},
        series,
        height_px=max(80, 24 * len(summary.variants)),
    )
