"""The figures of the paper, under its numbers."""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis.report.figures.marks import (
    LINE_SYMBOLS,
    Figure,
    Points,
    Row,
    Series,
    Spec,
    category,
    colors,
    curve_figure,
    image_series,
    is_one_moment,
    line_of,
    make_figure,
    quantity,
    row_of,
    seconds,
    tooltip,
)
from analysis.report.figures.shared import (
    bin_width_s,
    by_image,
    figure_text,
    image_text,
    memory_sizes_of,
    why_no,
)
from analysis.report.theme import image_styles
from analysis.report.wording import rounded
from analysis.summary import Summary
from core.run.records import Experiment
from core.variants import Image


def request_rate(summary: Summary) -> Figure:
    """Figure 1: the rate offered, and the rate answered, over the time of the load test."""
    rows = _load_rates(summary)
    offered, *answered = (Series("Offered", "@band"), *image_series(summary))

    def draw() -> Spec:
        encoding = {
            "x": seconds(),
            "y": quantity("rps", axis={"title": "Requests a second"}, scale={"zero": True, "nice": True}),
            "detail": category("variant"),
            "color": colors([offered, *answered]),
            "tooltip": tooltip({"series": "Rate", "variant": "Function", "second": "Second", "rps": "Requests/s"}),
        }
        point = is_one_moment(rows)
        # The offered rate is a broad road; the answered lines keep to it or leave it.
        return {
            "layer": [
                line_of(offered, encoding, strokeWidth=9, opacity=0.35, strokeCap="round", point=point),
                *(line_of(one, encoding, strokeWidth=1.6, point=point) for one in answered),
            ]
        }

    return make_figure(
        figure_text("request_rate", summary.images, number=1),
        summary,
        rows,
        draw,
        {"variant": "Function", "series": "Rate", "second": "Second", "rps": "Requests/s"},
        [offered, *answered],
        legend_style=LINE_SYMBOLS,
        why_empty=why_no(summary, "load"),
    )


def _load_rates(summary: Summary) -> list[Row]:
    """Offered and answered rate in at most MAX_TIME_BINS bins for each variant; the offered line once for all."""
    if not summary.load_seconds:
        return []
    width_s = bin_width_s(summary)
    frame = pl.DataFrame(
        {
            "variant": [second.variant for second in summary.load_seconds],
            "second": [second.second for second in summary.load_seconds],
            "bin": [second.second // width_s for second in summary.load_seconds],
            "offered": [second.offered for second in summary.load_seconds],
            "answered": [second.answered for second in summary.load_seconds],
        }
    )
    # The load ends within its last bin, whose rate would be partial: it would fall without a reason in the server.
    ends = {total.variant: max(total.durations_s) for total in summary.load_totals}
    filled = pl.col("variant").replace_strict(ends, return_dtype=pl.Float64) >= (pl.col("bin") + 1) * width_s
    whole = frame.filter(filled | (pl.col("bin") == 0))
    by_variant = whole.group_by("variant", "bin").agg(pl.col("offered", "answered").sum() / width_s)
    # One that ended early, as many calls failed, lowers no rate after its end.
    totals = {total.variant: total for total in summary.load_totals}
    repeats = [
        max(1, totals[variant].repeats_at(place * width_s))
        for variant, place in by_variant.select("variant", "bin").iter_rows()
    ]
    by_variant = by_variant.with_columns(pl.col("offered", "answered") / pl.Series(repeats))
    offered = by_variant.group_by("bin").agg(pl.col("offered").mean()).sort("bin")
    rows: list[Row] = [
        {
            "model": "",
            "engine": "",
            "memory_mb": None,
            "variant": "mean of all functions",
            "series": "Offered",
            "second": place * width_s,
            "rps": rounded(rate),
        }
        for place, rate in offered.iter_rows()
    ]
    for variant in summary.variants.values():
        mine = by_variant.filter(pl.col("variant") == variant.key).sort("bin")
        rows.extend(
            {
                **row_of(variant),
                "variant": variant.display_name,
                "series": variant.image.display_name,
                "second": row["bin"] * width_s,
                "rps": rounded(row["answered"]),
            }
            for row in mine.iter_rows(named=True)
        )
    return rows


def warm(summary: Summary, image: Image) -> Figure:
    """Figures 4 to 6: API latency and inference time against memory, warm."""
    points = Points(summary)
    color = image_styles(summary.images)[image].color
    series = (Series("API latency", color), Series("Inference time", color, (5, 3), "square"))
    for variant in summary.variants_of(image):
        points.add(variant, ("warm", "warm"), "API latency", "client_latency_ms")
        points.add(variant, ("warm", "warm"), "Inference time", "inference_ms")
    text = image_text("warm", image, points)
    return curve_figure(text, points, series, "ms", memory_sizes_of(summary), why_no(summary, "warm"))


def cold_against_warm(summary: Summary, image: Image) -> Figure:
    """Figures 7 to 9: a cold start next to a warm call, both by the platform's clock."""
    points = Points(summary)
    cold = Series("Cold start: init and duration", image_styles(summary.images)[image].color, (1, 0), "diamond")
    reference = Series("Warm call: duration", "@reference", (5, 3), "circle")
    for variant in summary.variants_of(image):
        points.add(variant, ("cold", "cold"), cold.name, "total_ms")
        points.add(variant, ("warm", "warm"), reference.name, "total_ms")
    if not any(row["series"] == cold.name for row in points.rows):
        points.rows.clear()  # the reference alone is no figure of cold starts
    text = image_text("cold", image, points)
    return curve_figure(text, points, (cold, reference), "ms", memory_sizes_of(summary), why_no(summary, "cold"))


def load(summary: Summary, image: Image) -> Figure:
    """Figures 10 to 12: latency and inference time under load, next to the warm latency."""
    points = Points(summary)
    color = image_styles(summary.images)[image].color
    series = (
        Series("API latency under load, median", color),
        Series("API latency under load, p95", color, (7, 3), "triangle-up"),
        Series("Inference time under load", color, (2, 2), "square"),
        Series("API latency, single warm calls", "@reference", (5, 3), "diamond"),
    )
    for variant in summary.variants_of(image):
        points.add(variant, ("load", "any"), series[0].name, "latency_from_intended_ms")
        points.add(variant, ("load", "any"), series[1].name, "latency_from_intended_ms", "p95")
        points.add(variant, ("load", "any"), series[2].name, "inference_ms")
        points.add(variant, ("warm", "warm"), series[3].name, "client_latency_ms", gaps=False)
    if not any(row["series"] != series[3].name for row in points.rows):
        points.rows.clear()  # the reference alone is no figure of the load test
    text = image_text("load", image, points)
    return curve_figure(text, points, series, "ms", memory_sizes_of(summary), why_no(summary, "load"))


# Number: file name, experiment and start type, metric.
BY_MODEL: Final[dict[int, tuple[str, tuple[Experiment, str], str]]] = {
    14: ("api_latency_warm", ("warm", "warm"), "client_latency_ms"),
    15: ("latency_cold", ("cold", "cold"), "total_ms"),
    16: ("inference_time", ("warm", "warm"), "inference_ms"),
}


def by_model(summary: Summary, number: int) -> list[Figure]:
    """Figures 14 to 16: one quantity of every model against memory, with the paper's engine and with every one.

    The paper's figure has its engine alone and is absent without it. The figure of all engines is absent where there
    is only the paper's.
    """
    key, where, metric = BY_MODEL[number]
    images = summary.images
    papers = tuple(image for image in images if image.is_the_papers)
    figures = []
    if papers:
        figures.append(by_image(summary, key, papers, where, metric, number=number, scope="all models"))
    if papers != images:
        figures.append(by_image(summary, key, images, where, metric, scope="all models and engines"))
    return figures
