"""Figures of latency that the paper lacks: spread, phases of a cold start, the load test over time."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from analysis.estimate.cells import Measured
from analysis.estimate.load_test import OF_SHAPE
from analysis.report.figures.marks import (
    FUNCTION,
    HOVER,
    LINE_SYMBOLS,
    Figure,
    Row,
    Series,
    Spec,
    colors,
    image_series,
    is_one_moment,
    line_of,
    make_figure,
    mark,
    memory_series,
    quantity,
    row_of,
    seconds,
    sizes_tell_apart,
    spreads,
    stacks,
    tooltip,
    value_axis,
)
from analysis.report.figures.shared import (
    BOX_FROM_N,
    WHISKERS_FROM_N,
    bin_width_s,
    figure_text,
    image_text,
    why_no,
)
from analysis.report.wording import missing_reason, number_text, rounded
from analysis.summary import NOTHING_ENFORCED, Summary
from core.run.records import Experiment
from core.statistics.intervals import smallest_n
from core.variants import Image, Variant

SPREADS: Final[dict[str, tuple[str, str, str]]] = {
    # experiment: (start type, metric, title)
    "warm": ("warm", "client_latency_ms", "Spread of API latency, warm"),
    "cold": ("cold", "total_ms", "Spread of cold starts"),
    "load": ("any", "latency_from_intended_ms", "Spread of latency under load"),
}


def spread(summary: Summary, measured: Measured, experiment: Experiment) -> Figure:
    """The spread of samples: p5, p25, p50, p75, and p95 of each function."""
    start_type, metric, title = SPREADS[experiment]
    rows: list[Row] = []
    notes = []
    series = image_series(summary)
    comparable = sizes_tell_apart(summary)
    for variant in summary.variants.values() if comparable else ():
        samples = measured.sample(variant.key, experiment, start_type, metric).ordered
        if not len(samples):
            notes.append(f"{variant.display_name}, {missing_reason(summary, variant, experiment, None)}")
            continue
        if len(samples) < BOX_FROM_N:
            notes.append(f"{variant.display_name}, n = {len(samples)} is too few for a box")
            continue
        shares = (0.05, 0.25, 0.5, 0.75, 0.95) if len(samples) >= WHISKERS_FROM_N else (0.0, 0.25, 0.5, 0.75, 1.0)
        values = [pl.Series(samples).quantile(share, "linear") for share in shares]
        rows.append(
            {
                "experiment": experiment,
                **row_of(variant),
                **dict(zip(("p5", "p25", "p50", "p75", "p95"), map(rounded, values), strict=True)),
                "minimum": rounded(float(samples[0])),
                "maximum": rounded(float(samples[-1])),
                "n": len(samples),
                "text": ", ".join(number_text(value) for value in values) + " ms",
                "range": f"{number_text(float(samples[0]))} to {number_text(float(samples[-1]))} ms",
            }
        )
    columns = {key: key for key in ("minimum", "p5", "p25", "p50", "p75", "p95", "maximum", "n")}
    return make_figure(
        figure_text(
            "spread",
            summary.images,
            name=f"spread_{experiment}",
            experiment=experiment,
            title=title,
            whiskers_from_n=WHISKERS_FROM_N,
        ),
        summary,
        rows,
        lambda: spreads(rows, series, "ms"),
        FUNCTION | columns,
        series,
        notes=notes,
        why_empty=why_no(summary, experiment) if comparable else NOTHING_ENFORCED,
    )


PHASES: Final[tuple[tuple[str, str, str], ...]] = (
    ("Platform and runtime", "platform_ms", "@series5"),
    ("Restore of the snapshot", "restore_ms", "@step5"),
    ("Import of the engine", "import_ms", "@series1"),
    ("Loading of the model", "load_ms", "@series2"),
    ("First inference", "first_inference_ms", "@series3"),
    ("Rest of the call", "rest_ms", "@series4"),
)


def cold_phases(summary: Summary, measured: Measured, image: Image) -> Figure:
    """The phases of a cold start: their means, which add up to the mean of the whole."""
    rows: list[Row] = []
    notes = []
    phases = [phase for phase in PHASES if phase[1] != "restore_ms" or image.start == "snapstart"]
    for variant in summary.variants_of(image):
        part = measured.parts.get((variant.key, "cold", "cold"))
        phased = _phases(part.filter(pl.col("rule").is_null())) if part is not None else pl.DataFrame()
        if phased.is_empty():
            notes.append(f"{variant.display_name}, {missing_reason(summary, variant, 'cold', None)}")
            continue
        for place, (name, key, _) in enumerate(phases):
            value = phased[key].mean()
            mean = float(value) if isinstance(value, float) else 0.0
            rows.append(
                {
                    "experiment": "cold",
                    **row_of(variant),
                    "series": name,
                    "place": place,
                    "value": rounded(mean),
                    "text": f"{number_text(mean)} ms",
                    "n": phased.height,
                }
            )
    series = [Series(name, color) for name, _, color in phases]
    return make_figure(
        image_text("cold_phases", image),
        summary,
        rows,
        lambda: stacks(series, "ms"),
        FUNCTION | {"series": "Phase", "value": "Mean, ms", "n": "n"},
        series,
        notes=notes,
        why_empty="no cold start of this run timed its phases",
    )


def _phases(samples: pl.DataFrame) -> pl.DataFrame:
    """Return the phases of cold starts in ms; what init leaves after the function's own phases is the platform's.

    A function makes its first inference in init, where it then differs from the inference of the call, or in its first
    call, where the two are one.
    """
    restored = pl.col("restore_ms").is_not_null()
    phases = pl.col("import_ms", "load_ms", "first_inference_ms")
    timed = samples.filter((pl.col("import_ms").is_not_null() & pl.col("load_ms").is_not_null()) | restored)
    # What ran before the snapshot is part of no start.
    timed = timed.with_columns(pl.when(restored).then(0.0).otherwise(phases).name.keep())
    first = pl.col("first_inference_ms").fill_null(0.0)
    first_in_call = pl.when(first == pl.col("inference_ms")).then(first).otherwise(0.0)
    started = pl.col("import_ms") + pl.col("load_ms") + first - first_in_call
    in_init = pl.col("init_ms") >= started
    # Where the function loads its model in the first call, or an init timeout left no init_ms, the phases lie in the
    # duration instead.
    platform = pl.when(in_init).then(pl.col("init_ms") - started).otherwise(pl.col("init_ms").fill_null(0.0))
    rest = pl.col("duration_ms") - first_in_call - pl.when(in_init).then(0.0).otherwise(started)
    return timed.select(
        platform.clip(lower_bound=0.0).alias("platform_ms"),
        pl.col("restore_ms").fill_null(0.0),
        "import_ms",
        "load_ms",
        first.alias("first_inference_ms"),
        rest.clip(lower_bound=0.0).alias("rest_ms"),
    )


def load_over_time(summary: Summary, measured: Measured, image: Image) -> Figure:
    """Latency second by second of the load test, with what was offered and how it ended."""
    width_s = bin_width_s(summary)
    rows: list[Row] = []
    series = memory_series([variant.memory_mb for variant in summary.variants_of(image)])
    for variant in summary.variants_of(image):
        rows += _load_bins(summary, measured, variant, width_s)
    width = "second" if width_s == 1 else f"{width_s} s"
    text = image_text("load_over_time", image, width=width, p95_from_n=smallest_n(0.95))
    if not rows:
        text = replace(text, detail="")
    answered = {row["series"] for row in rows if row["p50"] is not None}
    series = tuple(one for one in series if one.name in answered)
    if not series:
        rows.clear()

    def draw() -> Spec:
        axis = value_axis(rows, "ms", ("p50", "p95"))
        base = {
            "x": seconds(),
            "color": colors(series),
            "tooltip": tooltip(
                {"series": "Memory", "second": "Second", "p50": "Median, ms", "p95": "p95, ms", "n": "n"}
                | {"offered": "Offered", "answered": "Answered", "failed": "Not ok", "cold": "Cold"}
            ),
        }
        median, tail = (base | {"y": quantity(key, **axis)} for key in ("p50", "p95"))
        point = is_one_moment(rows)
        return {
            "layer": [
                *(line_of(one, tail, strokeWidth=1.2, opacity=0.4, point=point) for one in series),
                *(line_of(one, median, point=point) for one in series),
                # Something to hit with a pointer; lines alone are thin.
                mark("point", median, filled=True, size=60, opacity=0) | {"name": HOVER},
            ]
        }

    counts = {key: key for key in ("offered", "sent", "answered", "ok", "throttled", "dropped", "late", "cold")}
    return make_figure(
        text,
        summary,
        rows,
        draw,
        FUNCTION | {"second": "Second"} | counts | {"n": "n", "p50": "Median, ms", "p95": "p95, ms"},
        series,
        legend_style=LINE_SYMBOLS,
        why_empty=why_no(summary, "load"),
    )


LOAD_COUNTS: Final = ("offered", "sent", "answered", "ok", "throttled", "dropped", "late", "failed", "cold")


def _load_bins(summary: Summary, measured: Measured, variant: Variant, width_s: int) -> list[Row]:
    """Counts and latency of a variant's load test by time; latency is None where no request was answered."""
    seconds = [second for second in summary.load_seconds if second.variant == variant.key]
    part = measured.parts.get((variant.key, "load", "any"))
    if not seconds or part is None:
        return []
    counts = (
        pl.DataFrame(
            [{"second": second.second} | {key: getattr(second, key) for key in LOAD_COUNTS} for second in seconds]
        )
        .group_by((pl.col("second") // width_s).cast(pl.Int64).alias("bin"))
        .agg(pl.col(LOAD_COUNTS).sum())
        .sort("bin")
    )
    latency = pl.col("latency_from_intended_ms")
    samples = part.filter(OF_SHAPE & pl.col("rule").is_null() & latency.is_not_null())
    starts = np.array(next(total.started_at for total in summary.load_totals if total.variant == variant.key))
    started_at = starts[np.searchsorted(starts, samples["intended_at"].to_numpy(), side="right") - 1]
    latencies = (
        samples.group_by(((pl.col("intended_at") - pl.Series(started_at)) // width_s).cast(pl.Int64).alias("bin"))
        .agg(latency.median().alias("p50"), latency.quantile(0.95, "linear").alias("p95"), latency.len().alias("n"))
        .with_columns(pl.when(pl.col("n") >= smallest_n(0.95)).then("p95"))
    )
    return [
        {
            **row_of(variant),
            "series": f"{variant.memory_mb} MB",
            "second": row["bin"] * width_s,
            **{key: row[key] for key in LOAD_COUNTS},
            "n": row["n"] or 0,
            "p50": rounded(row["p50"]),
            "p95": rounded(row["p95"]),
        }
        for row in counts.join(latencies, on="bin", how="left").sort("bin").iter_rows(named=True)
    ]
