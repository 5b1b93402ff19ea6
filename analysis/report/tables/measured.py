"""Tables of what was measured: cold, warm and under load. No I/O."""

from __future__ import annotations

from typing import Any, Final

from analysis.report.tables.parts import (
    Table,
    TableCell,
    count_cell,
    estimate_cell,
    filters,
    make_table,
    number_cell,
    ratio_cell,
    share_cell,
    with_footnote,
)
from analysis.report.wording import metric_label, missing_reason
from analysis.summary import METRICS, Cell, Distribution, Summary
from core.run.records import Experiment
from core.variants import Variant

OVERVIEW_GROUPS: Final[tuple[tuple[str, Experiment, str, str], ...]] = (
    ("Cold start: init and duration", "cold", "cold", "total_ms"),
    ("Warm: API latency", "warm", "warm", "client_latency_ms"),
    ("Load: latency from due time", "load", "any", "latency_from_intended_ms"),
)


def overview(summary: Summary) -> dict[str, Any]:
    """The table of the whole run: cold, warm and load side by side, grouped columns."""
    groups = [
        {"title": title, "experiment": experiment, "columns": ["n", "median", "p95"]}
        for title, experiment, _, _ in OVERVIEW_GROUPS
        if experiment in summary.experiments
    ]
    groups.append({"title": "USD per million", "experiment": "", "columns": ["cold", "warm"]})
    rows = []
    footnotes: dict[str, int] = {}
    for key, variant in summary.variants.items():
        cells: list[TableCell] = []
        for _, experiment, start_type, metric in OVERVIEW_GROUPS:
            if experiment in summary.experiments:
                cells += _overview_cells(summary, variant, experiment, start_type, metric)
        for start_type in ("cold", "warm"):
            cost = summary.cost(key, start_type)
            cells.append(estimate_cell(cost.usd if cost else None, money=True, reason="no data"))
        rows.append(
            {
                "name": variant.image.display_name,
                "model": variant.model,
                "engine": variant.group,
                "memory_mb": variant.memory_mb,
                "recommended": key == summary.recommendation.variant,
                "cells": [with_footnote(cell, footnotes) for cell in cells],
            }
        )
    return {"groups": groups, "rows": rows, "footnotes": tuple(footnotes)}


def _overview_cells(
    summary: Summary, variant: Variant, experiment: Experiment, start_type: str, metric: str
) -> list[TableCell]:
    cell = summary.cell(variant.key, experiment, start_type)
    distribution = cell.metrics.get(metric) if cell else None
    n = distribution.n if distribution else 0
    cells = [TableCell(text=f"{n:,}", value=n, numeric=True, experiment=experiment)]
    if distribution is None:
        why = missing_reason(summary, variant, experiment, None)
        return cells + [estimate_cell(None, reason=why, experiment=experiment) for _ in range(2)]
    return cells + [estimate_cell(one, experiment=experiment) for one in (distribution.p50, distribution.p95)]


# Of METRICS, those a reader asks for; all of them are in summary.json.
PAGE_METRICS: Final = (
    "client_latency_ms",
    "latency_from_intended_ms",
    "total_ms",
    "init_ms",
    "duration_ms",
    "billed_ms",
    "inference_ms",
    "max_memory_used_mb",
)


def cells_table(summary: Summary, experiment: Experiment) -> Table:
    """Every metric of every function in one experiment, percentiles with intervals."""
    found: list[tuple[Cell, Distribution]] = [
        (cell, distribution)
        for cell in summary.cells
        if cell.experiment == experiment
        for metric, distribution in cell.metrics.items()
        if distribution.n and metric in PAGE_METRICS
    ]
    return make_table(
        f"{experiment}-metrics",
        f"Percentiles by metric, {experiment} experiment",
        found,
        (
            ("Function", lambda one: summary.name_of(one[0].variant)),
            ("Start", lambda one: one[0].start_type),
            ("Metric", lambda one: f"{METRICS[one[1].metric][0]}, {one[1].unit}"),
            ("n", lambda one: one[1].n),
            ("Environments", lambda one: count_cell(one[1].environments or None)),
            ("Effective n", lambda one: count_cell(one[1].effective_n)),
            ("Between, %", lambda one: number_cell(one[1].between_percent, digits=2)),
            ("Lag-1 correlation", lambda one: number_cell(one[1].autocorrelation, digits=2)),
            ("Minimum", lambda one: one[1].minimum),
            ("Median", lambda one: one[1].p50),
            ("p90", lambda one: one[1].p90),
            ("p95", lambda one: one[1].p95),
            ("p99", lambda one: one[1].p99),
            ("Maximum", lambda one: one[1].maximum),
        ),
        attributes=lambda one: filters(summary, one[0].variant),
        note="95% intervals over execution environments; nothing trimmed. Between: standard deviation of environments",
    )


def breakdown_table(summary: Summary) -> Table:
    """Estimates by protocol, connection and burst size."""
    metrics = {"cold": "total_ms"}
    found: list[tuple[Cell, Distribution]] = [
        (cell, distribution)
        for cell in summary.breakdown
        if (distribution := cell.metrics.get(metrics.get(cell.experiment, "client_latency_ms"))) is not None
    ]
    return make_table(
        "breakdown",
        "By protocol, connection and burst size",
        found,
        (
            ("Function", lambda one: summary.name_of(one[0].variant)),
            ("Experiment", lambda one: one[0].experiment),
            ("Start", lambda one: one[0].start_type),
            ("Protocol", lambda one: one[0].protocol),
            ("Connection", lambda one: one[0].connection if one[0].connection != "none" else ""),
            ("Burst", lambda one: count_cell(one[0].burst_size)),
            ("n", lambda one: one[1].n),
            ("Median", lambda one: one[1].p50),
            ("p95", lambda one: one[1].p95),
        ),
        attributes=lambda one: filters(summary, one[0].variant, one[0].experiment),
        note="Cold: init and duration; warm and load: API latency; ms",
    )


def differences_table(summary: Summary) -> Table:
    """Differences of medians with effect sizes."""
    return make_table(
        "differences",
        "Differences of medians",
        summary.differences,
        (
            ("Function", lambda one: summary.name_of(one.variant)),
            ("Compared", lambda one: f"{one.a} less {one.b}"),
            ("Metric", lambda one: metric_label(one.metric)),
            ("First", lambda one: one.median_a),
            ("Second", lambda one: one.median_b),
            ("Difference", lambda one: one.difference),
            ("Ratio", lambda one: one.ratio),
            ("Cliff's delta", lambda one: number_cell(one.cliffs_delta, digits=2)),
        ),
        attributes=lambda one: filters(summary, one.variant),
        note="95% intervals by bootstrap; Cliff's delta from -1 (all below) to 1 (all above)",
    )


def _evidence_text(evidence: dict[str, int]) -> str:
    names = {"none": "no evidence"}
    return ", ".join(
        f"{names.get(name, name.replace('_', ' '))} {count:,}" for name, count in sorted(evidence.items()) if count
    )


def cold_ratio_table(summary: Summary) -> Table:
    """How many starts were cold."""
    return make_table(
        "cold-ratios",
        "How many starts were cold, and by what evidence",
        summary.cold_ratios,
        (
            ("Function", lambda ratio: summary.name_of(ratio.variant)),
            ("Experiment", lambda ratio: ratio.experiment),
            ("Protocol", lambda ratio: ratio.protocol),
            ("n", lambda ratio: ratio.n),
            ("Cold", lambda ratio: ratio.cold),
            ("Warm", lambda ratio: ratio.warm),
            ("Unknown", lambda ratio: ratio.unknown),
            ("Cold share", lambda ratio: ratio_cell(ratio.ratio)),
            ("Evidence", lambda ratio: _evidence_text(ratio.evidence)),
        ),
        attributes=lambda ratio: filters(summary, ratio.variant, ratio.experiment),
    )


def highest_rates_table(summary: Summary) -> Table:
    """The highest rates, as the load found them and as simulated."""
    lab = " In a lab, the load meets the limits of the host, too." if summary.origin.source == "lab" else ""
    return make_table(
        "highest-rates",
        "Highest rate at which few enough callers miss the limit, requests per second",
        summary.highest_rates,
        (
            ("Function", lambda one: summary.name_of(one.variant)),
            ("Limit, ms", lambda one: one.limit_ms),
            ("May miss it", lambda one: share_cell(one.max_missed_share)),
            ("Measured by the load", lambda one: one.measured_rps),
            ("Calls", lambda one: one.measured_rps.n),
            ("Simulated", lambda one: one.simulated_rps),
            ("Simulated concurrency", lambda one: one.concurrency),
        ),
        attributes=lambda one: filters(summary, one.variant),
        note="Poisson arrivals at a constant rate. Simulated: with this run's calls, on demand, whose times do not "
        f"grow with the rate.{lab}",
    )


def load_table(summary: Summary) -> Table:
    """Totals of the load test."""
    return make_table(
        "load-totals",
        "The load test as a whole: offered and achieved",
        summary.load_totals,
        (
            ("Function", lambda total: summary.name_of(total.variant)),
            ("Shape", lambda total: total.protocol),
            ("Repeats", lambda total: total.repeats),
            ("Duration, s", lambda total: total.duration_s),
            ("Offered", lambda total: total.offered),
            ("Sent", lambda total: total.sent),
            ("Answered", lambda total: total.answered),
            ("Ok", lambda total: total.ok),
            ("Dropped", lambda total: total.dropped),
            ("Late", lambda total: total.late),
            ("Offered/s", lambda total: total.offered_rps),
            ("Answered/s", lambda total: total.achieved_rps),
            ("Send lag p99, ms", lambda total: total.send_lag_p99_ms),
        ),
        attributes=lambda total: filters(summary, total.variant),
        note="Dropped: due, but the generator had no room to send it; late: sent after its time",
    )
