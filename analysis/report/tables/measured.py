"""Tables of what was measured: cold, warm and under load. No I/O."""

from __future__ import annotations

from typing import Any, Final

from analysis.report.tables.parts import (
    Table,
    TableCell,
    TableRow,
    columns_of,
    count_cell,
    estimate_cell,
    filterable,
    number_cell,
    ratio_cell,
    text_cell,
)
from analysis.report.wording import (
    key_name,
    metric_label,
    missing_reason,
    model_name,
    parse_variant,
)
from analysis.summary import METRICS, Distribution, Summary
from core.records import Experiment

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
    for key in summary.variants:
        variant = parse_variant(key)
        cells: list[TableCell] = []
        for _, experiment, start_type, metric in OVERVIEW_GROUPS:
            if experiment in summary.experiments:
                cells += _overview_cells(summary, key, experiment, start_type, metric)
        for start_type in ("cold", "warm"):
            cost = summary.cost(key, start_type)
            cells.append(estimate_cell(cost.usd if cost else None, money=True, reason="no data"))
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
    summary: Summary, key: str, experiment: Experiment, start_type: str, metric: str
) -> list[TableCell]:
    cell = summary.cell(key, experiment, start_type)
    distribution = cell.metrics.get(metric) if cell else None
    n = distribution.n if distribution else 0
    cells = [TableCell(text=f"{n:,}", value=n, numeric=True, experiment=experiment)]
    if distribution is None:
        # Said once for both columns.
        why = missing_reason(summary, parse_variant(key), experiment, None)
        return [
            *cells,
            estimate_cell(None, reason=why, experiment=experiment),
            estimate_cell(None, experiment=experiment),
        ]
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
    rows = []
    for cell in summary.cells:
        if cell.experiment != experiment:
            continue
        for metric, distribution in cell.metrics.items():
            if distribution.n and metric in PAGE_METRICS:
                rows.append(_distribution_row(cell.variant, cell.start_type, metric, distribution))
    return Table(
        id=f"{experiment}-metrics",
        caption=f"Percentiles by metric, {experiment} experiment",
        note="95 % intervals over execution environments; nothing trimmed. Between: standard deviation of environments",
        columns=columns_of(
            "Function",
            "Start",
            "Metric",
            "n",
            "Environments",
            "Effective n",
            "Between, %",
            "Lag-1 correlation",
            "Minimum",
            "Median",
            "p90",
            "p95",
            "p99",
            "Maximum",
            text=(0, 1, 2),
        ),
        rows=tuple(rows),
        folded=True,
    )


def _distribution_row(key: str, start_type: str, metric: str, distribution: Distribution) -> TableRow:
    label, unit = METRICS.get(metric, (metric, distribution.unit))
    return TableRow(
        cells=(
            text_cell(key_name(key)),
            text_cell(start_type),
            text_cell(f"{label}, {unit}"),
            count_cell(distribution.n),
            count_cell(distribution.environments or None),
            count_cell(distribution.effective_n),
            number_cell(distribution.between_percent, digits=2),
            number_cell(distribution.autocorrelation, digits=2),
            number_cell(distribution.minimum),
            estimate_cell(distribution.p50),
            estimate_cell(distribution.p90),
            estimate_cell(distribution.p95),
            estimate_cell(distribution.p99),
            number_cell(distribution.maximum),
        ),
        attributes=filterable(key),
    )


def breakdown_table(summary: Summary) -> Table:
    """Estimates by protocol, connection and burst size."""
    rows = []
    for cell in summary.breakdown:
        metric = "client_latency_ms" if cell.experiment != "cold" else "total_ms"
        distribution = cell.metrics.get(metric)
        if distribution is None:
            continue
        rows.append(
            TableRow(
                cells=(
                    text_cell(key_name(cell.variant)),
                    text_cell(cell.experiment),
                    text_cell(cell.start_type),
                    text_cell(cell.protocol),
                    text_cell(cell.connection if cell.connection != "none" else ""),
                    count_cell(cell.burst_size),
                    count_cell(distribution.n),
                    estimate_cell(distribution.p50),
                    estimate_cell(distribution.p95),
                ),
                attributes=filterable(cell.variant) | {"experiment": cell.experiment},
            )
        )
    return Table(
        id="breakdown",
        caption="By protocol, connection and burst size",
        note="Cold: init and duration; warm and load: API latency; ms",
        columns=columns_of(
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


def differences_table(summary: Summary) -> Table:
    """Differences of medians with effect sizes."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(difference.variant)),
                text_cell(f"{difference.a} less {difference.b}"),
                text_cell(metric_label(difference.metric)),
                number_cell(difference.median_a),
                number_cell(difference.median_b),
                estimate_cell(difference.difference),
                estimate_cell(difference.ratio),
                number_cell(difference.cliffs_delta, digits=2),
            ),
            attributes=filterable(difference.variant) if difference.variant else {},
        )
        for difference in summary.differences
    ]
    return Table(
        id="differences",
        caption="Differences of medians",
        note="95 % intervals by bootstrap; Cliff's delta from -1 (all below) to 1 (all above)",
        columns=columns_of(
            "Function", "Compared", "Metric", "First", "Second", "Difference", "Ratio", "Cliff's delta", text=(0, 1, 2)
        ),
        rows=tuple(rows),
    )


def _evidence_text(evidence: dict[str, int]) -> str:
    names = {"none": "no evidence"}
    return ", ".join(
        f"{names.get(name, name.replace('_', ' '))} {count:,}" for name, count in sorted(evidence.items()) if count
    )


def cold_ratio_table(summary: Summary) -> Table:
    """How many starts were cold."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(ratio.variant)),
                text_cell(ratio.experiment),
                text_cell(ratio.protocol),
                count_cell(ratio.n),
                count_cell(ratio.cold),
                count_cell(ratio.warm),
                count_cell(ratio.unknown),
                ratio_cell(ratio.ratio),
                text_cell(_evidence_text(ratio.evidence)),
            ),
            attributes=filterable(ratio.variant) | {"experiment": ratio.experiment},
        )
        for ratio in summary.cold_ratios
    ]
    return Table(
        id="cold-ratios",
        caption="How many starts were cold, and by what evidence",
        columns=columns_of(
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


def load_table(summary: Summary) -> Table:
    """Totals of the load test."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(total.variant)),
                text_cell(total.protocol),
                number_cell(total.duration_s),
                count_cell(total.offered),
                count_cell(total.sent),
                count_cell(total.answered),
                count_cell(total.ok),
                count_cell(total.dropped),
                count_cell(total.late),
                number_cell(total.offered_rps),
                number_cell(total.achieved_rps),
                estimate_cell(total.send_lag_p99_ms),
            ),
            attributes=filterable(total.variant),
        )
        for total in summary.load_totals
    ]
    return Table(
        id="load-totals",
        caption="The load test as a whole: offered beside achieved",
        note="Dropped: due, but the generator had no room to send it; late: sent after its time",
        columns=columns_of(
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
