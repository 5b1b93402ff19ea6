"""The report of a run: figures as files, and one self-contained HTML page that needs no network.

`write_report` is the only part that writes; `build_page` is a pure function from summary and figures to HTML, so the
same run gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from analysis import figures as drawing
from analysis.figures import (
    NO_NUMBER,
    Figure,
    build_figures,
    legend_entry_px,
    missing_reason,
    model_name,
    number_text,
    parse_variant,
    variant_name,
)
from analysis.summary import METRICS, Distribution, Estimate, Summary
from analysis.theme import CONFIG, THEMES
from benchmark.records import Experiment, StartType
from benchmark.store import RunDirectory, write_atomically

TEMPLATES: Final = Path(__file__).parent / "templates"
MAX_ROWS_IN_PAGE: Final = 200  # of the table behind a figure; its CSV has them all

# Chosen so that nothing in a page can call out: no connection, no frame, no script but those whose text is hashed.
SECURITY_POLICY: Final = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)


# ---------------------------------------------------------------------------------------------------------------------
# What the template shows


@dataclass(frozen=True)
class TableCell:
    """One cell: its text, and for a number the value to sort by, the interval, or the reason why there is none."""

    text: str
    value: float | None = None
    interval: str = ""
    reason: str = ""
    numeric: bool = False
    verdict: str = ""
    experiment: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row and what the page filters it by."""

    cells: tuple[TableCell, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    mark: str = ""


@dataclass(frozen=True)
class TableColumn:
    """The head of a column."""

    label: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page; `folded` ones open on request."""

    id: str
    caption: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    note: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page with its figures and tables."""

    id: str
    title: str
    lead: str = ""
    measured: bool = False  # shows measured figures, so what the lab leaves out is said there
    figures: tuple[dict[str, Any], ...] = ()
    tables: tuple[Table, ...] = ()


def _text(text: Any) -> TableCell:
    return TableCell(text=str(text))


def _number(value: float | None, *, digits: int = 3, reason: str = "") -> TableCell:
    return TableCell(text=number_text(value, digits=digits), value=value, reason=reason, numeric=True)


def _integer(value: float | None) -> TableCell:
    return TableCell(text=NO_NUMBER if value is None else f"{value:,.0f}", value=value, numeric=True)


def _share(value: float | None, *, reason: str = "") -> TableCell:
    text = NO_NUMBER if value is None else percent_text(value)
    return TableCell(text=text, value=value, reason=reason, numeric=True)


def _estimate(estimate: Estimate | None, *, reason: str = "", experiment: str = "", money: bool = False) -> TableCell:
    if estimate is None or estimate.value is None:
        why = (estimate.reason if estimate is not None else "") or reason
        return TableCell(text=NO_NUMBER, reason=why, numeric=True, experiment=experiment)
    show = usd_text if money else number_text
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{show(estimate.low)} to {show(estimate.high)}"
    return TableCell(
        text=show(estimate.value),
        value=estimate.value,
        interval=interval,
        reason=estimate.reason,
        numeric=True,
        experiment=experiment,
    )


def usd_text(value: float | None) -> str:
    """Dollars with cents from one dollar on, three significant digits below."""
    if value is None:
        return NO_NUMBER
    return f"${value:,.2f}" if abs(value) >= 1 or value == 0 else f"${number_text(value)}"


def percent_text(share: float) -> str:
    return f"{number_text(share * 100)} %"


def _moment(seconds: float | None) -> str:
    return "unknown" if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _filterable(key: str) -> dict[str, str]:
    variant = parse_variant(key)
    return {"model": variant.model, "memory": str(variant.memory_mb)}


def _columns(*labels: str, text: Sequence[int] = (0,)) -> tuple[TableColumn, ...]:
    """Columns of numbers, but for those at the places `text`."""
    return tuple(TableColumn(label, numeric=place not in text) for place, label in enumerate(labels))


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def _answer(summary: Summary) -> dict[str, Any]:
    recommendation = summary.recommendation
    return {
        "headline": recommendation.headline,
        "tiles": _tiles(summary),
        "why": recommendation.why,
        "how_sure": recommendation.how_sure,
        "tied": [variant_name(parse_variant(key)) for key in recommendation.tied],
        "measured_where": recommendation.measured_where,
        "facts": _facts(summary),
    }


def _tiles(summary: Summary) -> list[dict[str, str]]:
    key = summary.recommendation.variant
    if key is None:
        return []
    tiles = []
    for label, where, metric, percentile in (
        ("Warm, median", ("warm", "warm"), "client_latency_ms", "p50"),
        ("Warm, p99", ("warm", "warm"), "client_latency_ms", "p99"),
        ("Cold start, median", ("cold", "cold"), "total_ms", "p50"),
    ):
        estimate = _estimate_of(summary, key, where, metric, percentile)
        tiles.append(_tile(label, _estimate(estimate, reason="not measured"), "ms"))
    cost = summary.cost(key, "warm")
    tiles.append(_tile("Per million, warm", _estimate(cost.usd if cost else None, money=True), ""))
    if summary.recommendation.monthly_usd is not None:
        requests = summary.recommendation.goal.get("requests_per_month")
        note = f"{requests:,.0f} requests" if requests else ""
        tiles.append(
            {"label": "A month", "value": usd_text(summary.recommendation.monthly_usd), "unit": "", "note": note}
        )
    best = summary.recommendation.probability_best.get(key)
    if best is not None:
        tiles.append({"label": "Best in resamples", "value": percent_text(best), "unit": "", "note": "bootstrap"})
    return tiles


def _tile(label: str, cell: TableCell, unit: str) -> dict[str, str]:
    known = cell.value is not None
    return {"label": label, "value": cell.text, "unit": unit if known else "", "note": cell.interval or cell.reason}


def _estimate_of(summary: Summary, key: str, where: tuple[str, str], metric: str, percentile: str) -> Estimate | None:
    cell = summary.cell(key, *where)
    distribution = cell.metrics.get(metric) if cell else None
    return getattr(distribution, percentile) if distribution else None


def _facts(summary: Summary) -> list[str]:
    origin = summary.origin
    facts = []
    if origin.source == "lab":
        cpus = f", {number_text(origin.host_cpus)} CPUs" if origin.host_cpus else ""
        facts.append(f"Host {origin.host or 'unknown'}{cpus}")
        limits = origin.limits
        facts.append(f"Limits in force: CPU {limits.cpu}, memory {limits.memory}, freezer {limits.freezer}")
        if origin.time_scale != 1:
            facts.append(f"Time scale {number_text(origin.time_scale)}: schedules and idle time ran that much faster")
    else:
        facts.append(f"Account {origin.account_id}, {origin.region}")
    return facts


def _alerts(summary: Summary) -> list[dict[str, str]]:
    """What must be known on the first screen: conditions that bend the figures, then how many warnings there are."""
    origin = summary.origin
    alerts: list[dict[str, str]] = []
    if origin.not_modelled:
        message = f"The lab does not model {', '.join(origin.not_modelled)}."
        alerts.append({"severity": "warning", "word": "Lab figures", "message": message})
    if origin.source == "lab" and "none" in {origin.limits.cpu, origin.limits.memory}:
        what = " and ".join(name for name in ("cpu", "memory") if getattr(origin.limits, name) == "none")
        message = f"No {what} limit was in force: memory sizes hardly differ here."
        alerts.append({"severity": "serious", "word": "No limits", "message": message})
    contended = sum(cell.host_contended for cell in summary.cells) + summary.excluded.get("host_contended", 0)
    if contended:
        message = f"{contended:,} samples were taken while the host had less CPU than it owed."
        alerts.append({"severity": "warning", "word": "Host contended", "message": message})
    weights = sorted({weight for cell in summary.cells for weight in cell.weights})
    if "random" in weights:
        message = (
            "Measured with random weights. Latency does not depend on them; accuracy is quoted from its source, "
            "not measured."
        )
        alerts.append({"severity": "warning", "word": "Random weights", "message": message})
    serious = sum(warning.severity == "serious" for warning in summary.warnings)
    if summary.warnings:
        count = len(summary.warnings)
        message = f"{count} in this run" + (f", {serious} of them serious." if serious else ".")
        severity = "serious" if serious else "info"
        alerts.append(
            {"severity": severity, "word": "Warnings", "message": message, "href": "#warnings", "link": "Read them."}
        )
    return alerts


# ---------------------------------------------------------------------------------------------------------------------
# Tables

OVERVIEW_GROUPS: Final[tuple[tuple[str, Experiment, StartType, str], ...]] = (
    ("Cold start: init and duration", "cold", "cold", "total_ms"),
    ("Warm: API latency", "warm", "warm", "client_latency_ms"),
    ("Load: latency from due time", "load", "warm", "latency_from_intended_ms"),
)


def _overview(summary: Summary) -> dict[str, Any]:
    groups = [
        {"title": title, "experiment": experiment, "columns": ["n", "median", "p95"]}
        for title, experiment, _, _ in OVERVIEW_GROUPS
        if experiment in summary.experiments
    ]
    groups.append({"title": "USD per million", "experiment": "", "columns": ["cold", "warm"]})
    rows = []
    for key in summary.variants:
        variant = parse_variant(key)
        cells: list[TableCell] = []
        for _, experiment, start_type, metric in OVERVIEW_GROUPS:
            if experiment in summary.experiments:
                cells += _overview_cells(summary, key, experiment, start_type, metric)
        for start_type in ("cold", "warm"):
            cost = summary.cost(key, start_type)
            cells.append(_estimate(cost.usd if cost else None, money=True, reason="no data"))
        rows.append(
            {
                "name": model_name(variant.model),
                "model": variant.model,
                "memory_mb": variant.memory_mb,
                "recommended": key == summary.recommendation.variant,
                "cells": cells,
            }
        )
    return {"groups": groups, "rows": rows}


def _overview_cells(
    summary: Summary, key: str, experiment: Experiment, start_type: StartType, metric: str
) -> list[TableCell]:
    cell = summary.cell(key, experiment, start_type)
    distribution = cell.metrics.get(metric) if cell else None
    n = distribution.n if distribution else 0
    cells = [TableCell(text=f"{n:,}", value=n, numeric=True, experiment=experiment)]
    for percentile in ("p50", "p95"):
        estimate: Estimate | None = getattr(distribution, percentile) if distribution else None
        why = missing_reason(summary, parse_variant(key), (experiment, start_type), estimate)
        if estimate is not None and estimate.value is None:
            estimate = estimate.model_copy(update={"reason": why})
        cells.append(_estimate(estimate, reason=why, experiment=experiment))
    return cells


def _cells_table(summary: Summary, experiment: Experiment) -> Table:
    """Every metric of every function in one experiment, percentiles with intervals."""
    rows = []
    for cell in summary.cells:
        if cell.experiment != experiment:
            continue
        for metric, distribution in cell.metrics.items():
            if distribution.n:
                rows.append(_distribution_row(cell.variant, cell.start_type, metric, distribution))
    return Table(
        id=f"{experiment}-metrics",
        caption=f"All metrics, {experiment} experiment",
        note="Percentiles with 95 % intervals; nothing trimmed",
        columns=_columns(
            "Function", "Start", "Metric", "n", "Minimum", "Median", "p90", "p95", "p99", "Maximum", text=(0, 1, 2)
        ),
        rows=tuple(rows),
        folded=True,
    )


def _distribution_row(key: str, start_type: str, metric: str, distribution: Distribution) -> TableRow:
    label, unit = METRICS.get(metric, (metric, distribution.unit))
    return TableRow(
        cells=(
            _text(variant_name(parse_variant(key))),
            _text(start_type),
            _text(f"{label}, {unit}"),
            _integer(distribution.n),
            _number(distribution.minimum),
            _estimate(distribution.p50),
            _estimate(distribution.p90),
            _estimate(distribution.p95),
            _estimate(distribution.p99),
            _number(distribution.maximum),
        ),
        attributes=_filterable(key),
    )


def _outcomes_table(summary: Summary) -> Table:
    outcomes = sorted(
        {outcome for cell in summary.cells for outcome in cell.outcomes}, key=lambda name: (name != "ok", name)
    )
    rules = sorted({rule for cell in summary.cells for rule, count in cell.excluded.items() if count})
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(cell.variant))),
                _text(cell.experiment),
                _text(cell.start_type),
                _integer(cell.n),
                *(_integer(cell.outcomes.get(outcome, 0)) for outcome in outcomes),
                *(_integer(cell.excluded.get(rule, 0)) for rule in rules),
            ),
            attributes=_filterable(cell.variant) | {"experiment": cell.experiment},
        )
        for cell in summary.cells
    ]
    labels = [outcome.replace("_", " ") for outcome in outcomes]
    left_out = [f"left out: {rule.replace('_', ' ')}" for rule in rules]
    return Table(
        id="outcomes",
        caption="Outcomes, and what was left out of the estimates by which rule",
        columns=_columns("Function", "Experiment", "Start", "Estimated from", *labels, *left_out, text=(0, 1, 2)),
        rows=tuple(rows),
    )


def _breakdown_table(summary: Summary) -> Table:
    rows = []
    for cell in summary.breakdown:
        metric = "client_latency_ms" if cell.experiment != "cold" else "total_ms"
        distribution = cell.metrics.get(metric)
        if distribution is None:
            continue
        rows.append(
            TableRow(
                cells=(
                    _text(variant_name(parse_variant(cell.variant))),
                    _text(cell.experiment),
                    _text(cell.start_type),
                    _text(cell.protocol),
                    _text(cell.connection if cell.connection != "none" else ""),
                    _integer(cell.burst_size),
                    _integer(distribution.n),
                    _estimate(distribution.p50),
                    _estimate(distribution.p95),
                ),
                attributes=_filterable(cell.variant) | {"experiment": cell.experiment},
            )
        )
    return Table(
        id="breakdown",
        caption="By protocol, connection and burst size",
        note="Cold: init and duration; warm and load: API latency; ms",
        columns=_columns(
            "Function",
            "Experiment",
            "Start",
            "Protocol",
            "Connection",
            "Burst",
            "n",
            "Median",
            "p95",
            text=(0, 1, 2, 3, 4),
        ),
        rows=tuple(rows),
        folded=True,
    )


def _differences_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(difference.variant))),
                _text(f"{difference.a} less {difference.b}"),
                _text(_metric_label(difference.metric)),
                _number(difference.median_a),
                _number(difference.median_b),
                _estimate(difference.difference),
                _estimate(difference.ratio),
                _number(difference.cliffs_delta, digits=2),
            ),
            attributes=_filterable(difference.variant) if difference.variant else {},
        )
        for difference in summary.differences
    ]
    return Table(
        id="differences",
        caption="Differences of medians",
        note="95 % intervals by bootstrap; Cliff's delta from -1 (all below) to 1 (all above)",
        columns=_columns(
            "Function", "Compared", "Metric", "First", "Second", "Difference", "Ratio", "Cliff's delta", text=(0, 1, 2)
        ),
        rows=tuple(rows),
    )


def _metric_label(metric: str) -> str:
    label, unit = METRICS.get(metric, (metric, ""))
    return f"{label}, {unit}" if unit else label


def _cold_ratio_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(ratio.variant))),
                _text(ratio.experiment),
                _text(ratio.protocol),
                _integer(ratio.n),
                _integer(ratio.cold),
                _integer(ratio.warm),
                _integer(ratio.unknown),
                _ratio_cell(ratio.ratio),
                _text(
                    ", ".join(
                        f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(ratio.evidence.items()) if count
                    )
                ),
            ),
            attributes=_filterable(ratio.variant) | {"experiment": ratio.experiment},
        )
        for ratio in summary.cold_ratios
    ]
    return Table(
        id="cold-ratios",
        caption="How many starts were cold, and by what evidence",
        columns=_columns(
            "Function",
            "Experiment",
            "Protocol",
            "n",
            "Cold",
            "Warm",
            "Unknown",
            "Cold share",
            "Evidence",
            text=(0, 1, 2, 8),
        ),
        rows=tuple(rows),
    )


def _ratio_cell(estimate: Estimate) -> TableCell:
    if estimate.value is None:
        return TableCell(text=NO_NUMBER, reason=estimate.reason, numeric=True)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{number_text(estimate.low * 100)} to {percent_text(estimate.high)}"
    return TableCell(
        text=percent_text(estimate.value), value=estimate.value, interval=interval, reason=estimate.reason, numeric=True
    )


def _costs_table(summary: Summary) -> Table:
    parts = list(dict.fromkeys(part for cost in summary.costs for part in cost.parts))
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(cost.variant))),
                _text(cost.start_type),
                _estimate(cost.usd, money=True, reason="no data"),
                *(
                    TableCell(text=usd_text(cost.parts.get(part)), value=cost.parts.get(part), numeric=True)
                    for part in parts
                ),
                TableCell(text=usd_text(cost.without_gateway_usd), value=cost.without_gateway_usd, numeric=True),
                _number(cost.billed_ms_mean),
                _number(cost.gb_seconds),
            ),
            attributes=_filterable(cost.variant),
            mark="recommended" if cost.variant == summary.recommendation.variant else "",
        )
        for cost in summary.costs
    ]
    return Table(
        id="costs",
        caption="USD per million predictions",
        note=f"Prices of {summary.prices.as_of}, {summary.prices.region}",
        columns=_columns(
            "Function",
            "Start",
            "Total",
            *(part.capitalize() for part in parts),
            "Without gateway",
            "Mean billed ms",
            "GB-s",
            text=(0, 1),
        ),
        rows=tuple(rows),
    )


STRATEGY_NAMES: Final = {
    "on_demand": "on demand",
    "provisioned_concurrency": "provisioned concurrency",
    "warm_pings": "warm pings",
}


def _monthly_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(monthly.variant))),
                _text(STRATEGY_NAMES[monthly.strategy]),
                TableCell(text=usd_text(monthly.usd), value=monthly.usd, reason=monthly.reason, numeric=True),
                _share(monthly.expected_cold_share),
                _number(monthly.environments),
                _integer(monthly.requests),
            ),
            attributes=_filterable(monthly.variant),
            mark="recommended"
            if (monthly.variant, monthly.strategy) == (summary.recommendation.variant, summary.recommendation.strategy)
            else "",
        )
        for monthly in summary.monthly
    ]
    return Table(
        id="monthly",
        caption="USD a month for the stated traffic",
        columns=_columns(
            "Function", "Strategy", "USD a month", "Expected cold share", "Environments", "Requests", text=(0, 1)
        ),
        rows=tuple(rows),
    )


def _break_even_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(point.variant))),
                _text(STRATEGY_NAMES[point.cheaper_below]),
                _text(STRATEGY_NAMES[point.cheaper_above]),
                TableCell(
                    text=NO_NUMBER if point.requests_per_month is None else f"{point.requests_per_month:,.0f}",
                    value=point.requests_per_month,
                    reason=point.reason,
                    numeric=True,
                ),
            ),
            attributes=_filterable(point.variant),
        )
        for point in summary.break_even
    ]
    return Table(
        id="break-even",
        caption="Break-even points",
        columns=_columns("Function", "Cheaper below", "Cheaper above", "Requests a month", text=(0, 1, 2)),
        rows=tuple(rows),
    )


CONSTRAINT_NAMES: Final = {
    "p99_ms": "p99 latency, ms",
    "top1_accuracy": "top-1 accuracy",
    "cold_share": "cold share",
    "runs": "runs at all",
}


def _constraints_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(constraint.variant))),
                _text(CONSTRAINT_NAMES[constraint.name]),
                _number(constraint.limit),
                _estimate(constraint.found),
                TableCell(text=constraint.verdict, verdict=constraint.verdict),
                _number(constraint.short_by),
                _text(constraint.text),
            ),
            attributes=_filterable(constraint.variant),
        )
        for constraint in summary.recommendation.constraints
    ]
    return Table(
        id="constraints",
        caption="The goal, held against every function",
        columns=_columns("Function", "Demand", "Limit", "Found", "Verdict", "Short by", "In words", text=(0, 1, 4, 6)),
        rows=tuple(rows),
    )


def _choice_table(summary: Summary) -> Table:
    """The Pareto front and the probability of being best."""
    best = summary.recommendation.probability_best
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(point.variant))),
                TableCell(text=usd_text(point.usd_per_million), value=point.usd_per_million, numeric=True),
                _number(point.latency_ms),
                _number(point.top1_accuracy),
                _text("on the front" if point.on_front else _dominated(point.dominated_by)),
                _share(best.get(point.variant)),
                _text("tied with the recommendation" if point.variant in summary.recommendation.tied else ""),
            ),
            attributes=_filterable(point.variant),
            mark="recommended" if point.variant == summary.recommendation.variant else "",
        )
        for point in summary.pareto
    ]
    return Table(
        id="choice",
        caption="Cost, latency and accuracy of every function",
        note="Accuracy is quoted, not measured; probability of being best among those that meet the goal, by bootstrap",
        columns=_columns(
            "Function",
            "USD per million",
            "Warm median, ms",
            "Top-1 accuracy",
            "Pareto front",
            "Best with probability",
            "",
            text=(0, 4, 6),
        ),
        rows=tuple(rows),
    )


def _dominated(by: str | None) -> str:
    return f"dominated by {variant_name(parse_variant(by))}" if by else "dominated"


def _knees_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(model_name(knee.model)),
                _text(_metric_label(knee.metric)),
                _integer(knee.memory_mb),
                _text(knee.reason),
            ),
            attributes={"model": knee.model},
        )
        for knee in summary.knees
    ]
    return Table(
        id="knees",
        caption="Where more memory hardly helps",
        columns=_columns("Model", "Metric", "Memory, MB", "Why", text=(0, 1, 3)),
        rows=tuple(rows),
    )


def _table1(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(row.display_name),
                _number(row.size_mb, reason=row.reason if row.size_mb is None else ""),
                _number(row.paper_size_mb),
                _number(None if row.parameters is None else row.parameters / 1e6),
                _number(None if row.multiply_adds is None else row.multiply_adds / 1e9),
                _number(None if row.paper_multiply_adds is None else row.paper_multiply_adds / 1e9),
                _number(row.top1_accuracy),
                _number(row.paper_top1_accuracy),
                _number(row.top5_accuracy),
                _number(row.paper_top5_accuracy),
                _text(", ".join(row.weights)),
                _text(row.accuracy_source),
            ),
            attributes={"model": row.model},
        )
        for row in summary.table1
    ]
    return Table(
        id="table1",
        caption="Table 1. The models as deployed, beside the paper's values",
        note="Size, parameters, multiply-adds of the deployed model. Accuracies quoted from their source, not measured",
        columns=_columns(
            "Model",
            "Size, MB",
            "paper",
            "Parameters, M",
            "Multiply-adds, G",
            "paper",
            "Top-1",
            "paper",
            "Top-5",
            "paper",
            "Weights here",
            "Source of accuracy",
            text=(0, 10, 11),
        ),
        rows=tuple(rows),
    )


def _load_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(total.variant))),
                _text(total.protocol),
                _number(total.duration_s),
                _integer(total.offered),
                _integer(total.sent),
                _integer(total.answered),
                _integer(total.ok),
                _integer(total.dropped),
                _integer(total.late),
                _number(total.offered_rps),
                _number(total.achieved_rps),
                _estimate(total.send_lag_p99_ms),
            ),
            attributes=_filterable(total.variant),
        )
        for total in summary.load_totals
    ]
    return Table(
        id="load-totals",
        caption="The load test as a whole: offered beside achieved",
        note="Dropped: due, but the generator had no room to send it; late: sent after its time",
        columns=_columns(
            "Function",
            "Shape",
            "Duration, s",
            "Offered",
            "Sent",
            "Answered",
            "Ok",
            "Dropped",
            "Late",
            "Offered/s",
            "Answered/s",
            "Send lag p99, ms",
            text=(0, 1),
        ),
        rows=tuple(rows),
    )


def _coverage_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(coverage.variant))),
                _text(coverage.experiment),
                _integer(coverage.sent),
                _integer(coverage.expected),
                _integer(coverage.found),
                _integer(coverage.missing),
                _integer(coverage.logs_only),
                _share(coverage.share, reason=coverage.reason),
            ),
            attributes=_filterable(coverage.variant)
            | ({} if coverage.experiment == "all" else {"experiment": coverage.experiment}),
        )
        for coverage in summary.coverage
    ]
    return Table(
        id="coverage",
        caption="Coverage: invocations found in the logs of those that must be there",
        columns=_columns(
            "Function", "Experiment", "Sent", "Expected", "Found", "Missing", "In logs alone", "Coverage", text=(0, 1)
        ),
        rows=tuple(rows),
    )


def _checks_table(summary: Summary) -> Table:
    rows = [
        TableRow(
            cells=(
                _text(variant_name(parse_variant(check.variant))),
                _text(check.metric),
                _text(check.statistic),
                _number(check.cloudwatch),
                _number(check.own),
                _number(check.difference_percent, digits=2),
                _text("unknown" if check.agrees is None else "yes" if check.agrees else "no"),
                _text(check.reason),
            ),
            attributes=_filterable(check.variant),
        )
        for check in summary.metric_checks
    ]
    return Table(
        id="metric-checks",
        caption="CloudWatch's statistics beside our own",
        columns=_columns(
            "Function",
            "Metric",
            "Statistic",
            "CloudWatch",
            "Own",
            "Difference, %",
            "Agrees",
            "Remark",
            text=(0, 1, 2, 6, 7),
        ),
        rows=tuple(rows),
        folded=True,
    )


def _flat(node: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, str) else json.dumps(node, ensure_ascii=False)


def _pairs_table(table_id: str, caption: str, pairs: Iterable[tuple[str, Any]], head: str = "Key") -> Table:
    return Table(
        id=table_id,
        caption=caption,
        columns=_columns(head, "Value", text=(0, 1)),
        rows=tuple(TableRow(cells=(_text(key), _text(value))) for key, value in pairs),
    )


def _run_pairs(summary: Summary) -> list[tuple[str, str]]:
    origin = summary.origin
    return [
        ("Run", summary.run_id),
        ("Started", _moment(summary.started_at)),
        ("Finished", _moment(summary.finished_at)),
        ("Ended because", summary.stopped_because or "unknown"),
        ("Source", origin.source),
        ("Region", origin.region),
        ("Account", origin.account_id),
        ("Host", origin.host or NO_NUMBER),
        ("Host CPUs", number_text(origin.host_cpus)),
        (
            "Limits",
            ", ".join(f"{name} {value}" for name, value in origin.limits.model_dump().items()),
        ),
        ("Time scale", number_text(origin.time_scale)),
        ("Not modelled", ", ".join(origin.not_modelled) or "nothing named"),
        ("Commit", summary.commit or "unknown"),
        ("Profile", summary.profile or "none"),
        ("Seed", str(summary.seed)),
        ("Invocations", f"{summary.invocations:,}"),
        *((f"Version of {name}", version) for name, version in sorted(summary.versions.items())),
    ]


def _price_pairs(summary: Summary) -> list[tuple[str, str]]:
    prices = summary.prices
    return [
        ("As of", prices.as_of),
        ("Region", prices.region),
        ("Source", prices.source),
        *((key, f"{value:.12g}") for key, value in sorted(prices.values.items())),
        *((f"{key} (overridden)", f"{value:.12g}") for key, value in sorted(prices.overrides.items())),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Figures in the page


def _figure_view(figure: Figure, still: str | None) -> dict[str, Any]:
    size = re.search(r'<svg[^>]* width="(\d+)[^"]*" height="(\d+)', still or "")
    return {
        "id": figure.id,
        "label": figure.label,
        "title": figure.title,
        "heading": figure.heading,
        "caption": figure.caption,
        "detail": figure.detail,
        "notes": figure.notes,
        "models": figure.models,
        "experiments": figure.experiments,
        "empty": figure.empty,
        "why_empty": f"No data: {figure.why_empty}.",
        "legend_rows": 1,
        "still": _data_uri(still) if still else "",
        "width": size[1] if size else drawing.WIDTH_PX,
        "height": size[2] if size else drawing.HEIGHT_PX,
        "table": _figure_table(figure),
    }


def _data_uri(document: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(document.encode()).decode()


def _figure_table(figure: Figure) -> Table | None:
    if not figure.rows or len(figure.rows) > MAX_ROWS_IN_PAGE:
        return None
    rows = []
    for row in figure.rows:
        cells = []
        for column in figure.columns:
            value = row.get(column.key)
            if column.numeric:
                text = (
                    NO_NUMBER
                    if value is None
                    else f"{value:,}"
                    if isinstance(value, int)
                    else number_text(value, digits=4)
                )
                cells.append(TableCell(text=text, value=value, numeric=True))
            else:
                cells.append(_text("" if value is None else value))
        attributes = {
            name: str(row[key])
            for name, key in (("model", "model"), ("memory", "memory_mb"), ("experiment", "experiment"))
            if row.get(key) not in (None, "")
        }
        rows.append(TableRow(cells=tuple(cells), attributes=attributes))
    return Table(
        id=f"{figure.id}-data",
        caption=figure.heading,
        columns=tuple(TableColumn(column.label, column.numeric) for column in figure.columns),
        rows=tuple(rows),
    )


def _figure_data(figure: Figure) -> dict[str, Any]:
    return {
        "id": figure.id,
        "chart": {key: value for key, value in figure.chart.items() if key != "datasets"},
        "rows": figure.rows,
        "columns": [{"key": column.key} for column in figure.columns],
        "legend_columns": max(1, len(figure.legend)),
        "legend_width": legend_entry_px(figure.legend),
    }


# ---------------------------------------------------------------------------------------------------------------------
# The page

SECTION_TEXTS: Final[tuple[tuple[str, str, str, bool], ...]] = (
    ("warnings", "Warnings", "", False),
    ("comparison", "Every function at a glance", "", True),
    ("warm", "Warm calls", "An environment is there and idle: what a call takes then.", True),
    ("cold", "Cold starts", "No environment is there: it is started first, and the caller waits for it.", True),
    ("load", "Under load", "Requests arrive at a set rate, whether or not earlier ones were answered.", True),
    ("cost", "Cost", "", True),
    ("decision", "The choice", "Which functions meet the goal, and which of those is best.", True),
    ("claims", "The paper's claims", "Each held against this run by a rule written down beforehand.", True),
    ("models", "The models", "", False),
    ("quality", "Quality of the data", "", False),
    ("methods", "Methods", "", False),
    ("configuration", "Configuration", "All that this run was made with.", False),
    ("files", "Data", "The figures above rest on these files, beside this page.", False),
)


def _tables(summary: Summary) -> dict[str, list[Table]]:
    return {
        "warm": [_cells_table(summary, "warm")],
        "cold": [_cold_ratio_table(summary), _cells_table(summary, "cold")],
        "load": [_load_table(summary), _cells_table(summary, "load")],
        "cost": [_costs_table(summary), _monthly_table(summary), _break_even_table(summary)],
        "decision": [_constraints_table(summary), _choice_table(summary), _knees_table(summary)],
        "models": [_table1(summary)],
        "quality": [
            _coverage_table(summary),
            _outcomes_table(summary),
            _breakdown_table(summary),
            _differences_table(summary),
            _checks_table(summary),
        ],
        "configuration": [
            _pairs_table("run", "The run", _run_pairs(summary), "Property"),
            _pairs_table("settings", "benchmark.toml, with its profile applied", _flat(summary.configuration)),
            _pairs_table("traffic", "Traffic of the monthly cost", _flat(summary.traffic)),
            _pairs_table("prices", "Prices", _price_pairs(summary)),
        ],
    }


def _sections(summary: Summary, views: Sequence[tuple[Figure, dict[str, Any]]]) -> list[Section]:
    tables = _tables(summary)
    sections = []
    for section_id, title, lead, measured in SECTION_TEXTS:
        sections.append(
            Section(
                id=section_id,
                title=title,
                lead=lead,
                measured=measured,
                figures=tuple(view for figure, view in views if figure.section == section_id),
                tables=tuple(table for table in tables.get(section_id, []) if table.rows),
            )
        )
    return sections


def _claims(summary: Summary) -> list[dict[str, Any]]:
    claims = []
    for claim in summary.claims:
        rows = tuple(
            TableRow(
                cells=(
                    _text(number.label),
                    _number(number.value),
                    TableCell(
                        text=NO_NUMBER
                        if number.low is None or number.high is None
                        else f"{number_text(number.low)} to {number_text(number.high)}"
                    ),
                    _text(number.unit),
                    _integer(number.n),
                )
            )
            for number in claim.numbers
        )
        table = Table(
            id=f"claim-{claim.id}-numbers",
            caption=f"Numbers of {claim.id}",
            columns=_columns("What", "Value", "95 % interval", "Unit", "n", text=(0, 2, 3)),
            rows=rows,
        )
        claims.append(claim.model_dump() | {"table": table})
    return claims


def _warnings(summary: Summary) -> list[dict[str, Any]]:
    order = {"serious": 0, "warning": 1, "info": 2}
    return [
        warning.model_dump() | {"names": [_name_of(key) for key in warning.variants]}
        for warning in sorted(summary.warnings, key=lambda warning: order[warning.severity])
    ]


def _name_of(key: str) -> str:
    try:
        return variant_name(parse_variant(key))
    except ValueError:
        return key


def _meta(summary: Summary) -> list[str]:
    meta = [_moment(summary.started_at)]
    if summary.finished_at is not None:
        meta.append(f"took {_duration(summary.finished_at - summary.started_at)}")
    meta += [
        f"{summary.invocations:,} invocations",
        f"{len(summary.variants)} functions",
        ", ".join(summary.experiments),
    ]
    return meta


def _script_json(value: Any) -> Markup:
    """JSON that cannot leave its script element, whatever strings it holds."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - every character that markup could begin with is escaped above


@cache
def _vega_script() -> str:
    """Vega, Vega-Lite and vega-embed in one script, as vl-convert ships them."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=drawing.VEGA_LITE_VERSION)
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _source_hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


EARLY_SCRIPT: Final = 'document.documentElement.className = "js";'


@dataclass(frozen=True)
class LinkedFile:
    """A file beside the page."""

    href: str
    name: str
    text: str


def build_page(
    summary: Summary, figures: Sequence[Figure], stills: dict[str, str], files: Sequence[LinkedFile] = ()
) -> str:
    """The page as HTML. `stills` holds the SVG of each figure by its id, for print and for readers without scripts."""
    page_script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    scripts = [EARLY_SCRIPT, _vega_script(), page_script]
    sections = _sections(summary, [(figure, _figure_view(figure, stills.get(figure.id))) for figure in figures])
    if not files:
        sections = [section for section in sections if section.id != "files"]
    variants = [parse_variant(key) for key in summary.variants]
    origin = summary.origin.model_dump() | {"short_badge": "Lab" if summary.origin.source == "lab" else "AWS"}
    data = {
        "themes": THEMES,
        "config": CONFIG,
        "figures": [_figure_data(figure) for figure in figures if not figure.empty],
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    view = summary.model_dump(include={"run_id", "title", "commit", "schema_version", "methods"})
    return environment.get_template("report.html.j2").render(
        page_title=f"{summary.recommendation.headline} {summary.title}",
        description=f"{summary.recommendation.headline} {summary.origin.badge}. {summary.invocations:,} invocations.",
        security_policy=SECURITY_POLICY.format(scripts=" ".join(_source_hash(script) for script in scripts)),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        early_script=Markup(EARLY_SCRIPT),  # noqa: S704 - our own constant
        vega_script=Markup(_vega_script()),  # noqa: S704 - as shipped, and its hash is in the page's policy
        page_script=Markup(page_script),  # noqa: S704 - our own file
        data_json=_script_json(data),
        summary=view | {"claims": _claims(summary), "warnings": _warnings(summary)},
        origin=origin,
        meta=_meta(summary),
        answer=_answer(summary),
        alerts=_alerts(summary),
        contents=[{"id": section.id, "title": section.title} for section in sections],
        filters={
            "models": [
                {"value": model, "label": model_name(model)} for model in dict.fromkeys(one.model for one in variants)
            ],
            "memory_sizes_mb": sorted({one.memory_mb for one in variants}),
            "experiments": summary.experiments,
        },
        overview=_overview(summary),
        sections=sections,
        files=files,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Files

FILE_TEXTS: Final[tuple[tuple[str, str], ...]] = (
    ("summary.json", "every number of this page, with a schema version"),
    ("summary.md", "the summary for a pull request or a terminal"),
    ("manifest.json", "what the run was made with"),
    ("data/invocations.parquet", "one row for each invocation"),
    ("data/invocations.csv", "the same as CSV"),
    ("data/invocations.csv.gz", "the same as CSV, compressed"),
)


def _linked_files(run: RunDirectory) -> list[LinkedFile]:
    found = [LinkedFile(name, name, text) for name, text in FILE_TEXTS if (run.root / name).exists()]
    return [*found, LinkedFile("figures/", "figures/", "each figure as SVG, PNG and CSV")]


def write_report(run: RunDirectory, invocations: pl.DataFrame, summary: Summary) -> Path:
    """Write `figures/` and `report.html` of a run and return the page's path.

    `invocations` has the columns of `benchmark.records.INVOCATION_COLUMNS`. Each file is written whole or not at all;
    figures that an earlier report left and this one does not have are removed.
    """
    figures = build_figures(summary, invocations)
    stills: dict[str, str] = {}
    written = set()
    for figure in figures:
        still = drawing.svg(figure)
        stills[figure.id] = still
        for suffix, content in ((".svg", still), (".png", drawing.png(still)), (".csv", drawing.csv_text(figure))):
            path = run.figures_directory / f"{figure.id}{suffix}"
            write_atomically(path, content)
            written.add(path)
    for path in run.figures_directory.glob("*"):
        if path not in written and path.suffix in {".svg", ".png", ".csv"}:
            path.unlink()
    write_atomically(run.report_path, build_page(summary, figures, stills, _linked_files(run)))
    return run.report_path
