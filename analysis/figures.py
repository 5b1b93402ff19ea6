"""The figures of a run: those of the paper under its numbers, and those it lacks; and how they become files.

What is drawn is aggregated first, so a figure's size does not grow with the number of invocations. A value that could
not be estimated is named below the title with its reason, never drawn as 0. Every figure carries the badge of its
origin inside the picture, so a copy of it cannot pass for something else.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from typing import Any, Final

import altair as alt
import polars as pl
import vl_convert

from analysis.cells import Measured
from analysis.charts import (
    HEIGHT_PX,
    HOVER,
    LINE_SYMBOLS,
    Column,
    Figure,
    Points,
    Row,
    Series,
    Text,
    colours,
    curve_figure,
    line_of,
    make_figure,
    memory_series,
    model_series,
    rows_data,
    shapes,
    spreads,
    stacks,
    tooltip,
    value_axis,
)
from analysis.summary import Summary
from analysis.theme import CONFIG, LIGHT, Theme, model_colour, paint
from analysis.wording import (
    STRATEGY_NAMES,
    missing_reason,
    model_name,
    models_of,
    number_text,
    parse_variant,
    percent_text,
    rounded,
    usd_text,
    variant_name,
)
from benchmark.matrix import Variant
from benchmark.records import Experiment

VEGA_LITE_VERSION: Final = "6.4"  # the one altair 6.3 writes for
PNG_SCALE: Final = 2.0
MAX_TIME_BINS: Final = 120
WHISKERS_FROM_N: Final = 20  # below, p5 and p95 would be the extremes themselves

# The paper's own order of its figures by model.
WARM_FIGURES: Final = {"inceptionv3": 4, "mobilenet": 5, "resnet50": 6}
COLD_FIGURES: Final = {"inceptionv3": 7, "resnet50": 8, "mobilenet": 9}
LOAD_FIGURES: Final = {"inceptionv3": 10, "resnet50": 11, "mobilenet": 12}

# Of the invocations, what figures are made from; the identifiers are most of their bytes.
MEASURED_COLUMNS: Final = (
    "variant",
    "experiment",
    "protocol",
    "start_type",
    "outcome",
    "warmup",
    "first_after_deploy",
    "host_contended",
    "intended_at",
    "client_latency_ms",
    "latency_from_intended_ms",
    "duration_ms",
    "init_ms",
    "init_status",
    "import_ms",
    "load_ms",
    "first_inference_ms",
)


def build_figures(summary: Summary, invocations: pl.DataFrame) -> list[Figure]:
    """Every figure of a run, those of all models first within each section; pure.

    `invocations` has the columns of `benchmark.records.INVOCATION_COLUMNS`. A model that is not in the run has no
    figure; an experiment that left nothing has figures that say so.
    """
    known = pl.col("variant").is_in(list(summary.variants))
    measured = Measured(invocations.select(MEASURED_COLUMNS).filter(known))
    models = models_of(summary)
    figures = [
        api_latency_warm(summary),
        inference_time(summary),
        *(warm(summary, model) for model in models),
        spread(summary, measured, "warm"),
        latency_cold(summary),
        spread(summary, measured, "cold"),
        *(cold_against_warm(summary, model) for model in models),
        *(cold_phases(summary, measured, model) for model in models),
        request_rate(summary),
        spread(summary, measured, "load"),
        *(load(summary, model) for model in models),
        *(load_over_time(summary, measured, model) for model in models),
        cost_per_million(summary),
        monthly_by_strategy(summary),
        cost_against_latency(summary),
        memory_used(summary),
    ]
    figures += [swapping(summary, model) for model in models if any(cell.model == model for cell in summary.swapping)]
    if any(outcome != "ok" and count for outcome, count in summary.outcomes.items()):
        figures.append(outcomes(summary))
    return figures


def _variants(summary: Summary, model: str | None = None) -> list[Variant]:
    variants = [parse_variant(key) for key in summary.variants]
    return [variant for variant in variants if model is None or variant.model == model]


def _sizes(summary: Summary) -> list[int]:
    return sorted({variant.memory_mb for variant in _variants(summary)})


def _why_no(summary: Summary, experiment: str) -> str:
    if experiment not in summary.experiments:
        return f"the {experiment} experiment is not part of this run"
    return f"the {experiment} experiment left no sample to estimate from"


def _numbered(numbers: dict[str, int], stem: str, model: str) -> tuple[str, str]:
    """File name and label of a model's figure; a model the paper does not have gets no number."""
    number = numbers.get(model)
    return (f"fig{number:02d}_{stem}_{model}", f"Figure {number}") if number else (f"{stem}_{model}", "")


# ---------------------------------------------------------------------------------------------------------------------
# The paper's figures


def request_rate(summary: Summary) -> Figure:
    """Figure 1: the rate offered, and the rate answered, over the time of the load test."""
    rows = _load_rates(summary)
    models = models_of(summary)
    offered, *answered = (Series("Offered", "@band"), *model_series(models))
    text = Text(
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
        models=models,
        detail="Offered rate as the broad line; answered rate by function, coloured by model",
    )

    def draw() -> Any:
        base = alt.Chart(rows_data()).encode(
            x=alt.X("second:Q", axis=alt.Axis(title="Time since the start of the load test, s", tickMinStep=1)),
            y=alt.Y("rps:Q", axis=alt.Axis(title="Requests a second"), scale=alt.Scale(zero=True, nice=True)),
            detail="variant:N",
            color=colours([offered, *answered]),
            tooltip=tooltip(("series", "Rate"), ("variant", "Function"), ("second", "Second"), ("rps", "Requests/s")),
        )
        # The offered rate is a broad road; the answered lines keep to it or leave it.
        return alt.layer(
            line_of(base, offered, strokeWidth=9, opacity=0.35, strokeCap="round"),
            *(line_of(base, one, strokeWidth=1.6) for one in answered),
        )

    columns = (
        Column("variant", "Function", numeric=False),
        Column("series", "Rate", numeric=False),
        Column("second", "Second"),
        Column("rps", "Requests/s"),
    )
    return make_figure(
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
    offered = by_variant.group_by("bin").agg(pl.col("offered").mean()).sort("bin")
    rows: list[Row] = [
        {
            "model": "",
            "memory_mb": None,
            "variant": "mean of all functions",
            "series": "Offered",
            "second": place * width_s,
            "rps": rounded(rate),
        }
        for place, rate in offered.iter_rows()
    ]
    for variant in _variants(summary):
        mine = by_variant.filter(pl.col("variant") == variant.key).sort("bin")
        rows.extend(
            {
                "model": variant.model,
                "memory_mb": variant.memory_mb,
                "variant": variant_name(variant),
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
    points = Points(summary)
    colour = model_colour(model, 0)
    series = (Series("API latency", colour), Series("Inference time", colour, (5, 3), "square"))
    for variant in _variants(summary, model):
        points.add(variant, ("warm", "warm"), "API latency", "client_latency_ms")
        points.add(variant, ("warm", "warm"), "Inference time", "inference_ms")
    file_name, label = _numbered(WARM_FIGURES, "warm", model)
    text = Text(
        id=file_name,
        label=label,
        title=f"{model_name(model)}, warm: time against memory",
        caption=(
            "API latency is the client's, from request to response over the REST endpoint. Inference time is the "
            "forward pass alone, timed inside the function. Between the two lie gateway, network, image decoding and "
            "the platform."
        ),
        section="warm",
        experiments=("warm",),
        models=(model,),
        detail=_detail("Median with 95 % interval", points),
    )
    return curve_figure(text, points, series, "ms", _sizes(summary), _why_no(summary, "warm"))


def _detail(what: str, points: Points) -> str:
    return f"{what}, {points.sample_range}" if points.rows else ""


def cold_against_warm(summary: Summary, model: str) -> Figure:
    """Figures 7 to 9: what a cold start takes beside a warm call, both by the platform's clock."""
    points = Points(summary)
    cold = Series("Cold start: init and duration", model_colour(model, 0), (1, 0), "diamond")
    reference = Series("Warm call: duration", "@reference", (5, 3), "circle")
    for variant in _variants(summary, model):
        points.add(variant, ("cold", "cold"), cold.name, "total_ms")
        points.add(variant, ("warm", "warm"), reference.name, "total_ms")
    if not any(row["series"] == cold.name for row in points.rows):
        points.rows.clear()  # the reference alone is no figure of cold starts
    file_name, label = _numbered(COLD_FIGURES, "cold", model)
    text = Text(
        id=file_name,
        label=label,
        title=f"{model_name(model)}: cold start against warm call",
        caption=(
            "Both are the platform's own times, so they compare: for a cold start init and duration together, for a "
            "warm call its duration. Scheduled cold starts have no client, hence no API latency."
        ),
        section="cold",
        experiments=("cold", "warm"),
        models=(model,),
        detail=_detail("Median with 95 % interval", points),
    )
    return curve_figure(text, points, (cold, reference), "ms", _sizes(summary), _why_no(summary, "cold"))


def load(summary: Summary, model: str) -> Figure:
    """Figures 10 to 12: latency and inference time under load, beside the warm latency."""
    points = Points(summary)
    colour = model_colour(model, 0)
    series = (
        Series("API latency under load, median", colour),
        Series("API latency under load, p95", colour, (7, 3), "triangle-up"),
        Series("Inference time under load", colour, (2, 2), "square"),
        Series("API latency, single warm calls", "@reference", (5, 3), "diamond"),
    )
    for variant in _variants(summary, model):
        points.add(variant, ("load", "any"), series[0].name, "latency_from_intended_ms")
        points.add(variant, ("load", "any"), series[1].name, "latency_from_intended_ms", "p95")
        points.add(variant, ("load", "any"), series[2].name, "inference_ms")
        points.add(variant, ("warm", "warm"), series[3].name, "client_latency_ms", gaps=False)
    if not any(row["series"] != series[3].name for row in points.rows):
        points.rows.clear()  # the reference alone is no figure of the load test
    file_name, label = _numbered(LOAD_FIGURES, "load", model)
    text = Text(
        id=file_name,
        label=label,
        title=f"{model_name(model)} under load: time against memory",
        caption=(
            "Latency under load counts from the moment a request was due, not from when a busy generator came to send "
            "it. Cold and warm starts together, as users of the load test met them. Grey: the latency of single warm "
            "calls."
        ),
        section="load",
        experiments=("load",),
        models=(model,),
        detail=_detail("With 95 % intervals", points),
    )
    return curve_figure(text, points, series, "ms", _sizes(summary), _why_no(summary, "load"))


def api_latency_warm(summary: Summary) -> Figure:
    """Figure 14."""
    return _by_model(
        summary,
        number=14,
        stem="api_latency_warm",
        title="API latency of warm calls, all models",
        caption="The client's time from request to response over the REST endpoint.",
        where=("warm", "warm"),
        metric="client_latency_ms",
    )


def latency_cold(summary: Summary) -> Figure:
    """Figure 15."""
    return _by_model(
        summary,
        number=15,
        stem="latency_cold",
        title="Latency of cold starts, all models",
        caption="Init and duration together, by the platform's clock.",
        where=("cold", "cold"),
        metric="total_ms",
    )


def inference_time(summary: Summary) -> Figure:
    """Figure 16."""
    return _by_model(
        summary,
        number=16,
        stem="inference_time",
        title="Inference time, all models",
        caption="The forward pass alone, timed inside the function, of warm calls.",
        where=("warm", "warm"),
        metric="inference_ms",
    )


def _by_model(
    summary: Summary, *, number: int, stem: str, title: str, caption: str, where: tuple[Experiment, str], metric: str
) -> Figure:
    points = Points(summary)
    for variant in _variants(summary):
        points.add(variant, where, model_name(variant.model), metric)
    models = models_of(summary)
    text = Text(
        id=f"fig{number:02d}_{stem}",
        label=f"Figure {number}",
        title=title,
        caption=caption,
        section=where[0],
        experiments=(where[0],),
        models=models,
        detail=_detail("Median with 95 % interval", points),
    )
    return curve_figure(text, points, model_series(models), "ms", _sizes(summary), _why_no(summary, where[0]))


# ---------------------------------------------------------------------------------------------------------------------
# Figures the paper does not have

SPREADS: Final[dict[str, tuple[str, str, str]]] = {
    # experiment: (start type, metric, title)
    "warm": ("warm", "client_latency_ms", "Spread of API latency, warm"),
    "cold": ("cold", "total_ms", "Spread of cold starts"),
    "load": ("any", "latency_from_intended_ms", "Spread of latency under load"),
}


def spread(summary: Summary, measured: Measured, experiment: Experiment) -> Figure:
    """How far samples lie apart: p5, p25, p50, p75 and p95 of each function."""
    start_type, metric, title = SPREADS[experiment]
    rows: list[Row] = []
    notes = []
    for variant in _variants(summary):
        samples = measured.samples(variant.key, experiment, start_type, metric)
        if not len(samples):
            notes.append(f"{variant_name(variant)}, {missing_reason(summary, variant, experiment, None)}")
            continue
        shares = (0.05, 0.25, 0.5, 0.75, 0.95) if len(samples) >= WHISKERS_FROM_N else (0.0, 0.25, 0.5, 0.75, 1.0)
        series = pl.Series(samples)
        values = [series.quantile(share, "linear") for share in shares]
        rows.append(
            {
                "experiment": experiment,
                "model": variant.model,
                "name": model_name(variant.model),
                "memory_mb": variant.memory_mb,
                **dict(zip(("p5", "p25", "p50", "p75", "p95"), map(rounded, values), strict=True)),
                "minimum": rounded(float(samples[0])),
                "maximum": rounded(float(samples[-1])),
                "n": len(samples),
                "text": ", ".join(number_text(value) for value in values) + " ms",
                "range": f"{number_text(float(samples[0]))} to {number_text(float(samples[-1]))} ms",
            }
        )
    text = Text(
        id=f"spread_{experiment}",
        title=title,
        caption=(
            "Box from p25 to p75 with the median, whiskers from p5 to p95; with fewer than "
            f"{WHISKERS_FROM_N} samples the whiskers reach from the smallest to the largest. Nothing is trimmed: the "
            "extremes stand in the numbers."
        ),
        section=experiment,
        experiments=(experiment,),
        models=models_of(summary),
        detail="Single samples, not the uncertainty of their median",
    )
    columns = (
        Column("name", "Model", numeric=False),
        Column("memory_mb", "Memory, MB"),
        *(Column(key, key) for key in ("minimum", "p5", "p25", "p50", "p75", "p95", "maximum", "n")),
    )
    return make_figure(
        text,
        summary,
        rows,
        lambda: spreads(rows, models_of(summary), "ms"),
        columns,
        notes=notes,
        legend=[model_name(model) for model in models_of(summary)],
        why_empty=_why_no(summary, experiment),
    )


PHASES: Final[tuple[tuple[str, str, str], ...]] = (
    ("Platform and runtime", "platform_ms", "@series5"),
    ("Import of the engine", "import_ms", "@series1"),
    ("Loading of the model", "load_ms", "@series2"),
    ("First inference", "first_inference_ms", "@series3"),
    ("Rest of the call", "rest_ms", "@series4"),
)


def cold_phases(summary: Summary, measured: Measured, model: str) -> Figure:
    """Where a cold start's time goes: means of its phases, which add up to the mean of the whole."""
    rows: list[Row] = []
    notes = []
    for variant in _variants(summary, model):
        part = measured.parts.get((variant.key, "cold", "cold"))
        phased = _phases(part.filter(pl.col("rule").is_null())) if part is not None else pl.DataFrame()
        if phased.is_empty():
            notes.append(f"{variant_name(variant)}, {missing_reason(summary, variant, 'cold', None)}")
            continue
        for place, (name, key, _) in enumerate(PHASES):
            value = phased[key].mean()
            mean = float(value) if isinstance(value, float) else 0.0
            rows.append(
                {
                    "experiment": "cold",
                    "model": model,
                    "name": model_name(model),
                    "memory_mb": variant.memory_mb,
                    "series": name,
                    "place": place,
                    "value": rounded(mean),
                    "text": f"{number_text(mean)} ms",
                    "n": phased.height,
                }
            )
    series = [Series(name, colour) for name, _, colour in PHASES]
    text = Text(
        id=f"cold_phases_{model}",
        title=f"{model_name(model)}: where a cold start's time goes",
        caption=(
            "Means, because means add up; medians and intervals are in the figures before. Import, loading and first "
            "inference are timed by the function, the rest is what init and duration leave."
        ),
        section="cold",
        experiments=("cold",),
        models=(model,),
        detail="Mean of each phase",
    )
    columns = (
        Column("name", "Model", numeric=False),
        Column("memory_mb", "Memory, MB"),
        Column("series", "Phase", numeric=False),
        Column("value", "Mean, ms"),
        Column("n", "n"),
    )
    return make_figure(
        text,
        summary,
        rows,
        lambda: stacks(series, "ms"),
        columns,
        notes=notes,
        legend=[one.name for one in series],
        why_empty="no cold start of this run timed its phases",
    )


def _phases(samples: pl.DataFrame) -> pl.DataFrame:
    """Phases of cold starts in ms; those of before the handler are what init leaves after import and loading."""
    timed = samples.filter(pl.col("import_ms").is_not_null() & pl.col("load_ms").is_not_null())
    first = pl.col("first_inference_ms").fill_null(0.0)
    in_init = pl.col("init_ms") >= pl.col("import_ms") + pl.col("load_ms")
    started = pl.col("import_ms") + pl.col("load_ms")
    # Where the function loads its model in the first call, or an init timeout left no init_ms, the phases lie in the
    # duration instead.
    platform = pl.when(in_init).then(pl.col("init_ms") - started).otherwise(pl.col("init_ms").fill_null(0.0))
    rest = pl.col("duration_ms") - first - pl.when(in_init).then(0.0).otherwise(started)
    return timed.select(
        platform.clip(lower_bound=0.0).alias("platform_ms"),
        "import_ms",
        "load_ms",
        first.alias("first_inference_ms"),
        rest.clip(lower_bound=0.0).alias("rest_ms"),
    )


def memory_used(summary: Summary) -> Figure:
    """How much of its memory a function takes, against what it has."""
    points = Points(summary)
    for variant in _variants(summary):
        points.add(variant, ("warm", "warm"), model_name(variant.model), "max_memory_used_mb")
    models = models_of(summary)
    text = Text(
        id="memory_used",
        title="Memory used against memory size",
        caption=(
            "The platform's own Max Memory Used, which never falls within an environment. A function whose need lies "
            "above its size is killed."
        ),
        section="decision",
        experiments=("warm",),
        models=models,
        detail=_detail("Median with 95 % interval, warm calls", points),
    )
    return curve_figure(text, points, model_series(models), "MB", _sizes(summary), _why_no(summary, "warm"))


def load_over_time(summary: Summary, measured: Measured, model: str) -> Figure:
    """Latency second by second of the load test, with what was offered and how it ended."""
    width_s = _bin_width_s(summary)
    rows: list[Row] = []
    series = memory_series([variant.memory_mb for variant in _variants(summary, model)])
    for variant in _variants(summary, model):
        rows += _load_bins(summary, measured, variant, width_s)
    text = Text(
        id=f"load_over_time_{model}",
        title=f"{model_name(model)}: latency over the time of the load test",
        caption=(
            "Latency of answered requests by the second they were due, counted from then; p95 where there are "
            f"{WHISKERS_FROM_N} or more. The CSV also holds offered, "
            "answered, throttled, dropped and cold requests of each second."
        ),
        section="load",
        experiments=("load",),
        models=(model,),
        detail=f"Median of each {'second' if width_s == 1 else f'{width_s} s'}; faint: p95" if rows else "",
    )

    answered = {row["series"] for row in rows if row["p50"] is not None}
    series = tuple(one for one in series if one.name in answered)
    if not series:
        rows.clear()

    def draw() -> Any:
        axis = value_axis(rows, "ms", ("p50", "p95"))
        base = alt.Chart(rows_data()).encode(
            x=alt.X("second:Q", axis=alt.Axis(title="Time since the start of the load test, s", tickMinStep=1)),
            color=colours(series),
            tooltip=tooltip(
                ("series", "Memory"),
                ("second", "Second"),
                ("p50", "Median, ms"),
                ("p95", "p95, ms"),
                ("n", "n"),
                ("offered", "Offered"),
                ("answered", "Answered"),
                ("failed", "Not ok"),
                ("cold", "Cold"),
            ),
        )
        median, tail = alt.Y("p50:Q", **axis), alt.Y("p95:Q", **axis)
        return alt.layer(
            *(line_of(base, one, strokeWidth=1.2, opacity=0.4).encode(y=tail) for one in series),
            *(line_of(base, one).encode(y=median) for one in series),
            # Something to hit with a pointer; lines alone are thin.
            base.mark_point(filled=True, size=60, opacity=0).encode(y=median).properties(name=HOVER),
        )

    columns = (
        Column("model", "Model", numeric=False),
        Column("memory_mb", "Memory, MB"),
        Column("second", "Second"),
        *(Column(key, key) for key in ("offered", "sent", "answered", "ok", "throttled", "dropped", "late", "cold")),
        Column("n", "n"),
        Column("p50", "Median, ms"),
        Column("p95", "p95, ms"),
    )
    return make_figure(
        text,
        summary,
        rows,
        draw,
        columns,
        legend=[one.name for one in series],
        legend_style=LINE_SYMBOLS,
        why_empty=_why_no(summary, "load"),
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
    start = part["intended_at"].min()
    latency = pl.col("latency_from_intended_ms")
    latencies = (
        part.filter(pl.col("rule").is_null() & latency.is_not_null())
        .group_by(((pl.col("intended_at") - start) // width_s).cast(pl.Int64).alias("bin"))
        .agg(latency.median().alias("p50"), latency.quantile(0.95, "linear").alias("p95"), latency.len().alias("n"))
        .with_columns(pl.when(pl.col("n") >= WHISKERS_FROM_N).then("p95"))
    )
    return [
        {
            "model": variant.model,
            "memory_mb": variant.memory_mb,
            "series": f"{variant.memory_mb} MB",
            "second": row["bin"] * width_s,
            **{key: row[key] for key in LOAD_COUNTS},
            "n": row["n"] or 0,
            "p50": rounded(row["p50"]),
            "p95": rounded(row["p95"]),
        }
        for row in counts.join(latencies, on="bin", how="left").sort("bin").iter_rows(named=True)
    ]


def cost_per_million(summary: Summary) -> Figure:
    """USD per million predictions against memory, cold and warm."""
    points = Points(summary)
    models = models_of(summary)
    series = []
    for index, model in enumerate(models):
        series.append(Series(f"{model_name(model)}, warm", model_colour(model, index), (1, 0), "circle"))
        series.append(Series(f"{model_name(model)}, cold", model_colour(model, index), (5, 3), "diamond"))
    for cost in summary.costs:
        variant = parse_variant(cost.variant)
        name = f"{model_name(variant.model)}, {cost.start_type}"
        experiment: Experiment = "cold" if cost.start_type == "cold" else "warm"
        if cost.usd.value is None:
            points.gap(variant, cost.start_type, missing_reason(summary, variant, experiment, cost.usd))
        else:
            points.add_estimate(variant, name, cost.usd, unit="USD", experiment=experiment)
    text = Text(
        id="cost_per_million",
        title="Cost per million predictions against memory",
        caption=(
            "Compute with init as billed, request fee, gateway and logs. A million cold predictions is the price of "
            f"every call being cold, not of a mixed month. Prices of {summary.prices.as_of}, {summary.prices.region}."
        ),
        section="cost",
        experiments=(),
        models=models,
        detail=_detail("Mean, with an approximate 95 % interval", points),
    )
    return curve_figure(text, points, series, "USD", _sizes(summary), "no call that succeeded, so none to price")


STRATEGY_SERIES: Final = (
    Series(STRATEGY_NAMES["on_demand"], "@series1"),
    Series(STRATEGY_NAMES["provisioned_concurrency"], "@series2", (7, 3), "square"),
    Series(STRATEGY_NAMES["warm_pings"], "@series3", (2, 2), "triangle-up"),
)


def monthly_by_strategy(summary: Summary) -> Figure:
    """USD a month of the recommended model by the way of keeping environments warm."""
    chosen = summary.recommendation.variant
    models = models_of(summary)
    model = parse_variant(chosen).model if chosen else models[0]
    points = Points(summary)
    for month in summary.monthly:
        variant = parse_variant(month.variant)
        if variant.model != model:
            continue
        name = STRATEGY_NAMES[month.strategy]
        if month.usd is None:
            points.gap(variant, name, month.reason or "no price")
            continue
        cold = percent_text(month.expected_cold_share)
        points.rows.append(
            {
                "model": variant.model,
                "name": model_name(variant.model),
                "memory_mb": variant.memory_mb,
                "series": name,
                "value": rounded(month.usd),
                "low": None,
                "high": None,
                "n": round(month.requests),
                "text": f"{usd_text(month.usd)} for {month.requests:,.0f} requests, {cold} cold",
            }
        )
    text = Text(
        id="monthly_cost",
        title=f"{model_name(model)}: cost of a month by strategy",
        caption=(
            "For the stated traffic, everything included. On demand some starts are cold; provisioned concurrency and "
            "warm pings pay to avoid them. The other models stand in the table."
        ),
        section="cost",
        experiments=(),
        models=(model,),
        detail="Computed from the mean billed times, hence without interval",
    )
    return curve_figure(text, points, STRATEGY_SERIES, "USD a month", _sizes(summary), "no call succeeded")


def cost_against_latency(summary: Summary) -> Figure:
    """The plane in which one chooses: cost and latency of every function, and which of them nothing beats."""
    models = models_of(summary)
    series = model_series(models)
    rows: list[Row] = []
    for point in summary.pareto:
        variant = parse_variant(point.variant)
        recommended = point.variant == summary.recommendation.variant
        rows.append(
            {
                "model": variant.model,
                "name": model_name(variant.model),
                "memory_mb": variant.memory_mb,
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
        models=models,
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
        why_empty="no warm call succeeded",
        height_px=HEIGHT_PX + 40,
    )


def swapping(summary: Summary, model: str) -> Figure:
    """Claim C11: CPU share and memory varied apart from each other."""
    points = Points(summary)
    cells = [cell for cell in summary.swapping if cell.model == model]
    shares = sorted({cell.vcpu for cell in cells})
    series = tuple(
        Series(f"{number_text(share)} vCPU", f"@series{index % 5 + 1}", memory.dash, memory.shape)
        for index, (share, memory) in enumerate(zip(shares, memory_series([0] * len(shares)), strict=True))
    )
    sizes = sorted({cell.memory_mb for cell in cells})
    for cell in cells:
        variant = Variant(model=model, engine="", architecture="", memory_mb=cell.memory_mb)
        name = f"{number_text(cell.vcpu)} vCPU"
        if cell.inference_ms.value is None:
            killed = f"{cell.killed:,} calls killed for their memory" if cell.killed else ""
            points.gap(variant, name, killed or cell.inference_ms.reason or "no sample")
        else:
            points.add_estimate(variant, name, cell.inference_ms, unit="ms")
    text = Text(
        id=f"swapping_{model}",
        title=f"{model_name(model)}: memory and CPU share varied apart",
        caption=(
            "If want of memory made inference slow, each line would fall to the right. If the CPU share does, the "
            "lines are level and lie apart. Only the lab can vary the two apart; AWS ties them together."
        ),
        section="claims",
        experiments=(),
        models=(model,),
        detail=_detail("Median inference time with 95 % interval", points),
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
    for variant in _variants(summary):
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
                        "model": variant.model,
                        "memory_mb": variant.memory_mb,
                        "name": variant_name(variant),
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
        models=models_of(summary),
    )

    def draw() -> Any:
        names = [variant_name(variant) for variant in _variants(summary)]
        return (
            alt.Chart(rows_data())
            .mark_bar(stroke="@paper", strokeWidth=1)
            .encode(
                y=alt.Y(
                    "name:N",
                    sort=names,
                    axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=150, grid=False),
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


# ---------------------------------------------------------------------------------------------------------------------
# Drawing


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
    """The data behind a figure, one row a drawn value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.key for column in figure.columns])
    for row in figure.rows:
        writer.writerow([_csv_field(row.get(column.key)) for column in figure.columns])
    return file.getvalue()


def _csv_field(value: Any) -> Any:
    # A spreadsheet takes a text that begins like this for a formula.
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return "" if value is None else value
