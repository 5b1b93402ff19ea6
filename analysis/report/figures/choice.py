"""Figures of cost, memory and outcomes: what a choice is made by. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Literal

import altair as alt
import numpy as np

from analysis.estimate.traffic import DAYS_PER_MONTH
from analysis.report.figures.marks import (
    HEIGHT_PX,
    LINE_SYMBOLS,
    NOTHING_ENFORCED,
    Column,
    Figure,
    Points,
    Row,
    Series,
    Text,
    colours,
    curve_figure,
    image_series,
    line_of,
    make_figure,
    memory_series,
    row_of,
    rows_data,
    shapes,
    sizes_tell_apart,
    tooltip,
    value_axis,
)
from analysis.report.figures.shared import by_image, detail_of, memory_sizes_of, stem
from analysis.report.wording import (
    STRATEGY_NAMES,
    missing_reason,
    number_text,
    percent_text,
    rounded,
    usd_text,
)
from analysis.summary import Summary
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
    cold = " A million cold predictions is the price of every call being cold, not of a mixed month."
    text = Text(
        id=f"cost_per_million_{start_type}",
        title=f"Cost per million {start_type} predictions against memory",
        caption=(
            f"Compute with init as billed, request fee, gateway and logs.{cold if start_type == 'cold' else ''} "
            f"Prices of {summary.prices.as_of}, {summary.prices.region}."
        ),
        section="cost",
        experiments=(start_type,),
        images=summary.images,
        detail=detail_of("Mean, with an approximate 95 % interval", points),
    )
    why_empty = "no call that succeeded, so none to price"
    return curve_figure(text, points, image_series(summary), "USD", memory_sizes_of(summary), why_empty)


STRATEGY_SERIES: Final = (
    Series(STRATEGY_NAMES["on_demand"], "@series1"),
    Series(STRATEGY_NAMES["provisioned_concurrency"], "@series2", (7, 3), "square"),
    Series(STRATEGY_NAMES["warm_pings"], "@series3", (2, 2), "triangle-up"),
)


def monthly_by_strategy(summary: Summary, image: Image) -> Figure:
    """USD a month of each of an image's memory sizes by the way of keeping environments warm."""
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
    text = Text(
        id=f"monthly_cost_{stem(image)}",
        title=f"{image.display_name}: cost of a month by strategy",
        caption=(
            "For the stated traffic, everything included. On demand some starts are cold; provisioned concurrency and "
            "warm pings pay to avoid them."
        ),
        section="cost",
        experiments=(),
        images=(image,),
        detail="Computed from the mean billed times, hence without interval",
    )
    return curve_figure(text, points, STRATEGY_SERIES, "USD a month", memory_sizes_of(summary), "no call succeeded")


def monthly_by_traffic(summary: Summary, image: Image) -> Figure:
    """USD a month against requests a day, with the points from which one strategy costs less than another.

    Of the image's memory size that is cheapest for the stated traffic, or the recommended one.
    """
    variant = _shown_variant(summary, image)
    rows: list[Row] = []
    curves = [curve for curve in summary.cost_curves if variant is not None and curve.variant == variant.key]
    for curve in curves:
        for requests_per_day, usd in zip(curve.requests_per_day, curve.usd, strict=True):
            rows.append(
                _traffic_row(
                    variant, STRATEGY_NAMES[curve.strategy], "cost", requests_per_day, usd, f"{usd_text(usd)} a month"
                )
            )
    by_strategy = {curve.strategy: curve for curve in curves}
    for point in summary.break_even:
        above = by_strategy.get(point.cheaper_above)
        if variant is None or point.variant != variant.key or point.requests_per_month is None or above is None:
            continue
        requests_per_day = point.requests_per_month / DAYS_PER_MONTH
        if not above.requests_per_day[0] <= requests_per_day <= above.requests_per_day[-1]:
            continue
        usd = float(np.exp(np.interp(np.log(requests_per_day), np.log(above.requests_per_day), np.log(above.usd))))
        cheaper = (
            f"{STRATEGY_NAMES[point.cheaper_above]} costs less than {STRATEGY_NAMES[point.cheaper_below]} from here"
        )
        rows.append(
            _traffic_row(variant, STRATEGY_NAMES[point.cheaper_above], "break-even", requests_per_day, usd, cheaper)
        )
    name = variant.display_name if variant is not None else image.display_name
    stated = summary.traffic.get("requests_per_day")
    text = Text(
        id=f"monthly_by_traffic_{stem(image)}",
        title=f"{name}: cost of a month against requests a day",
        caption=(
            "Everything included, the day's shape as stated. Rings are break-even points: from there on the strategy "
            "of that colour costs less than another. The dotted line is the stated traffic. The table of break-even "
            "points has every memory size."
        ),
        section="cost",
        experiments=(),
        images=(image,),
        detail="Computed from the mean billed times, hence without interval",
    )
    shown = [one for one in STRATEGY_SERIES if any(row["series"] == one.name for row in rows)]

    def draw() -> Any:
        across = alt.Scale(
            type="log",
            nice=False,
            domain=[min(one.requests_per_day[0] for one in curves), max(one.requests_per_day[-1] for one in curves)],
        )
        x = alt.X(
            "requests_per_day:Q",
            scale=across,
            axis=alt.Axis(title="Requests a day, logarithmic", format="~s", tickCount=6),
        )
        y = alt.Y("value:Q", **value_axis(rows, "USD a month", ("value",)))
        hover = tooltip(("series", "Strategy"), ("requests_text", "Requests a day"), ("text", "USD"))
        base = alt.Chart(rows_data()).encode(x=x, y=y, color=colours(shown), tooltip=hover)
        curve = alt.FieldEqualPredicate(field="mark", equal="cost")
        crossing = alt.FieldEqualPredicate(field="mark", equal="break-even")
        lines = base.transform_filter(curve)
        layers = [
            *(line_of(lines, one) for one in shown),
            lines.mark_point(filled=True, size=22, opacity=1),
        ]
        # A layer without a mark would be a nameless group to a screen reader.
        if any(row["mark"] == "break-even" for row in rows):
            rings = base.mark_point(filled=False, size=190, strokeWidth=2.5, opacity=1)
            layers.append(rings.transform_filter(crossing))
        if isinstance(stated, (int, float)) and any(
            one.requests_per_day[0] <= stated <= one.requests_per_day[-1] for one in curves
        ):
            rule = alt.Chart().mark_rule(color="@axis", strokeWidth=1, strokeDash=[2, 3], aria=False)
            layers.insert(0, rule.encode(x=alt.XDatum(stated, scale=across)))
        return alt.layer(*layers)

    columns = (
        Column("memory_mb", "Memory, MB"),
        Column("series", "Strategy", numeric=False),
        Column("mark", "Point", numeric=False),
        Column("requests_per_day", "Requests a day"),
        Column("value", "USD a month"),
    )
    return make_figure(
        text,
        summary,
        rows,
        draw,
        columns,
        legend=[one.name for one in shown],
        legend_style=LINE_SYMBOLS,
        why_empty="no cold and warm call of this model was billed",
    )


def _shown_variant(summary: Summary, image: Image) -> Variant | None:
    """The recommended variant if it is of this image, else the image's cheapest for the stated traffic."""
    mine = {variant.key: variant for variant in summary.variants_of(image)}
    if summary.recommendation.variant in mine:
        return mine[summary.recommendation.variant]
    drawn = {curve.variant for curve in summary.cost_curves}
    priced = [
        (month.usd, month.variant)
        for month in summary.monthly
        if month.usd is not None and month.variant in drawn and month.variant in mine
    ]
    return mine[min(priced)[1]] if priced else None


def _traffic_row(
    variant: Variant | None, series: str, mark: str, requests_per_day: float, usd: float, text: str
) -> Row:
    return {
        **(row_of(variant) if variant else {}),
        "series": series,
        "mark": mark,
        "requests_per_day": rounded(requests_per_day),
        "requests_text": f"{requests_per_day:,.0f}",
        "value": rounded(usd),
        "text": text,
    }


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
    text = Text(
        id="cost_against_latency",
        title="Cost against latency: what there is to choose from",
        caption=(
            "Filled: no other function is better in cost, latency and accuracy together. Hollow: another is. The ring "
            "marks the recommendation. Accuracy is quoted from its source, not measured."
        ),
        section="decision",
        experiments=(),
        images=summary.images,
        detail="Warm calls; memory size in MB beside those on the front",
    )

    def draw() -> Any:
        x = alt.X("usd:Q", **value_axis(rows, "USD per million predictions, warm", ("usd",), zero=False))
        y = alt.Y("latency_ms:Q", **value_axis(rows, "Median latency, ms", ("latency_ms",), zero=False))
        base = alt.Chart(rows_data()).encode(x=x, y=y)
        hover = tooltip(
            ("name", "Model"),
            ("memory_mb", "Memory, MB"),
            ("text", "Per million, median latency"),
            ("accuracy", "Top-1 accuracy (quoted)"),
            ("front", "Pareto front"),
        )
        mark = base.encode(color=colours(series, "name"), shape=shapes(series, "name"), tooltip=hover)
        front = alt.FieldEqualPredicate(field="front", equal="on the front")
        dominated = alt.FieldEqualPredicate(field="front", equal="dominated")
        chosen = alt.FieldEqualPredicate(field="recommended", equal="recommended")
        return alt.layer(
            base.mark_point(size=420, color="@good", strokeWidth=2.5, opacity=1).transform_filter(chosen),
            mark.mark_point(filled=False, size=80, opacity=1, fill="@paper").transform_filter(dominated),
            mark.mark_point(filled=True, size=110, opacity=1).transform_filter(front),
            base.mark_text(align="left", dx=9, dy=-7, fontSize=10, color="@quiet")
            .encode(text="label:N")
            .transform_filter(front),
        )

    columns = (
        Column("name", "Model", numeric=False),
        Column("memory_mb", "Memory, MB"),
        Column("usd", "USD per million"),
        Column("latency_ms", "Median latency, ms"),
        Column("accuracy", "Top-1 accuracy"),
        Column("front", "Pareto front", numeric=False),
    )
    return make_figure(
        text,
        summary,
        rows,
        draw,
        columns,
        legend=[one.name for one in series],
        why_empty="no warm call succeeded" if comparable else NOTHING_ENFORCED,
        height_px=HEIGHT_PX + 40,
    )


def memory_used(summary: Summary) -> Figure:
    """How much of its memory a function takes, against what it has."""
    text = Text(
        id="memory_used",
        title="Memory used against memory size",
        caption=(
            "The platform's own Max Memory Used, which never falls within an environment. A function whose need lies "
            "above its size is killed."
        ),
        section="decision",
        experiments=("warm",),
        images=summary.images,
        detail="Median with 95 % interval, warm calls",
    )
    return by_image(summary, text, ("warm", "warm"), "max_memory_used_mb", "MB")


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
    text = Text(
        id=f"swapping_{stem(image)}",
        title=f"{image.display_name}: memory and CPU share varied apart",
        caption=(
            "If want of memory made inference slow, each line would fall to the right. If the CPU share does, the "
            "lines are level and lie apart. Only the lab can vary the two apart; AWS ties them together."
        ),
        section="claims",
        experiments=(),
        images=(image,),
        detail=detail_of("Median inference time with 95 % interval", points),
    )
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
    series = [Series(name, colour) for name, colour, _ in OUTCOME_GROUPS if name in present]
    text = Text(
        id="outcomes",
        title="How the calls of each function ended",
        caption="Calls of all experiments, warm-ups included. Only ok calls have a latency to estimate.",
        section="quality",
        experiments=(),
        images=summary.images,
    )

    def draw() -> Any:
        names = [variant.display_name for variant in summary.variants.values()]
        return (
            alt.Chart(rows_data())
            .mark_bar(stroke="@paper", strokeWidth=1)
            .encode(
                y=alt.Y(
                    "name:N",
                    sort=names,
                    axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=220, grid=False),
                ),
                x=alt.X("value:Q", stack="zero", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(title=None, format="%")),
                color=colours(series),
                order=alt.Order("place:Q"),
                tooltip=tooltip(("name", "Function"), ("series", "Outcome"), ("text", "Calls")),
            )
        )

    columns = (
        Column("name", "Function", numeric=False),
        Column("series", "Outcome", numeric=False),
        Column("count", "Calls"),
        Column("value", "Share"),
    )
    return make_figure(
        text,
        summary,
        rows,
        draw,
        columns,
        legend=[one.name for one in series],
        height_px=max(80, 24 * len(summary.variants)),
    )
