"""The tables of the report: what stands in which column, and what each row is filtered by. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from analysis.charts import Figure
from analysis.summary import METRICS, Claim, Distribution, Estimate, Summary
from analysis.wording import (
    NO_NUMBER,
    STRATEGY_NAMES,
    count_text,
    interval_text,
    key_name,
    metric_label,
    missing_reason,
    model_name,
    moment_text,
    number_text,
    parse_variant,
    percent_text,
    usd_text,
)
from benchmark.records import Experiment

MAX_ROWS_IN_PAGE: Final = 80  # of the table behind a figure; its CSV has them all


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


def text_cell(text: Any) -> TableCell:
    return TableCell(text=str(text))


def number_cell(value: float | None, *, digits: int = 3, reason: str = "") -> TableCell:
    return TableCell(text=number_text(value, digits=digits), value=value, reason=reason, numeric=True)


def count_cell(value: float | None) -> TableCell:
    return TableCell(text=NO_NUMBER if value is None else f"{value:,.0f}", value=value, numeric=True)


def share_cell(value: float | None, *, reason: str = "") -> TableCell:
    text = NO_NUMBER if value is None else percent_text(value)
    return TableCell(text=text, value=value, reason=reason, numeric=True)


def estimate_cell(
    estimate: Estimate | None, *, reason: str = "", experiment: str = "", money: bool = False
) -> TableCell:
    if estimate is None or estimate.value is None:
        why = (estimate.reason if estimate is not None else "") or reason
        return TableCell(text=NO_NUMBER, reason=why, numeric=True, experiment=experiment)
    return TableCell(
        text=usd_text(estimate.value) if money else number_text(estimate.value),
        value=estimate.value,
        interval=interval_text(estimate, money=money),
        reason=estimate.reason,
        numeric=True,
        experiment=experiment,
    )


def _filterable(key: str) -> dict[str, str]:
    """Attributes by which the page filters rows; a row about something else than a variant (the gateway) has none."""
    try:
        variant = parse_variant(key)
    except ValueError:
        return {}
    return {"model": variant.model, "memory": str(variant.memory_mb)}


def _columns(*labels: str, text: Sequence[int] = (0,)) -> tuple[TableColumn, ...]:
    """Columns of numbers, but for those at the places `text`."""
    return tuple(TableColumn(label, numeric=place not in text) for place, label in enumerate(labels))


# ---------------------------------------------------------------------------------------------------------------------
# Tables

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
            text_cell(key_name(key)),
            text_cell(start_type),
            text_cell(f"{label}, {unit}"),
            count_cell(distribution.n),
            number_cell(distribution.minimum),
            estimate_cell(distribution.p50),
            estimate_cell(distribution.p90),
            estimate_cell(distribution.p95),
            estimate_cell(distribution.p99),
            number_cell(distribution.maximum),
        ),
        attributes=_filterable(key),
    )


def outcomes_table(summary: Summary) -> Table:
    """How calls ended, and how many were left out by which rule."""
    cells = [cell for cell in summary.cells if cell.start_type != "any"]
    outcomes = sorted({outcome for cell in cells for outcome in cell.outcomes}, key=lambda name: (name != "ok", name))
    rules = sorted({rule for cell in cells for rule, count in cell.excluded.items() if count})
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(cell.variant)),
                text_cell(cell.experiment),
                text_cell(cell.start_type),
                count_cell(cell.n),
                *(count_cell(cell.outcomes.get(outcome, 0)) for outcome in outcomes),
                *(count_cell(cell.excluded.get(rule, 0)) for rule in rules),
            ),
            attributes=_filterable(cell.variant) | {"experiment": cell.experiment},
        )
        for cell in cells
    ]
    labels = [outcome.replace("_", " ") for outcome in outcomes]
    left_out = [f"left out: {rule.replace('_', ' ')}" for rule in rules]
    return Table(
        id="outcome-counts",
        caption="Outcomes, and what was left out of the estimates by which rule",
        columns=_columns("Function", "Experiment", "Start", "Estimated from", *labels, *left_out, text=(0, 1, 2)),
        rows=tuple(rows),
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
                text_cell(
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


def ratio_cell(estimate: Estimate) -> TableCell:
    if estimate.value is None:
        return TableCell(text=NO_NUMBER, reason=estimate.reason, numeric=True)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{number_text(estimate.low * 100)} to {percent_text(estimate.high)}"
    return TableCell(
        text=percent_text(estimate.value), value=estimate.value, interval=interval, reason=estimate.reason, numeric=True
    )


def costs_table(summary: Summary) -> Table:
    """Cost per million predictions and its parts."""
    parts = list(dict.fromkeys(part for cost in summary.costs for part in cost.parts))
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(cost.variant)),
                text_cell(cost.start_type),
                estimate_cell(cost.usd, money=True, reason="no data"),
                estimate_cell(cost.median_usd, money=True, reason="no data"),
                *(
                    TableCell(text=usd_text(cost.parts.get(part)), value=cost.parts.get(part), numeric=True)
                    for part in parts
                ),
                TableCell(text=usd_text(cost.without_gateway_usd), value=cost.without_gateway_usd, numeric=True),
                number_cell(cost.billed_ms_mean),
                number_cell(cost.gb_seconds),
            ),
            attributes=_filterable(cost.variant),
            mark="recommended" if cost.variant == summary.recommendation.variant else "",
        )
        for cost in summary.costs
    ]
    return Table(
        id="costs",
        caption="USD per million predictions",
        note=(
            f"Prices of {summary.prices.as_of}, {summary.prices.region}. The mean adds up to a bill, and its interval "
            "is approximate; that of the median is exact"
        ),
        columns=_columns(
            "Function",
            "Start",
            "At the mean",
            "At the median",
            *(part.capitalize() for part in parts),
            "Without gateway",
            "Mean billed ms",
            "GB-s",
            text=(0, 1),
        ),
        rows=tuple(rows),
    )


def monthly_table(summary: Summary) -> Table:
    """Cost of a month by strategy."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(monthly.variant)),
                text_cell(STRATEGY_NAMES[monthly.strategy]),
                TableCell(text=usd_text(monthly.usd), value=monthly.usd, reason=monthly.reason, numeric=True),
                share_cell(monthly.expected_cold_share),
                number_cell(monthly.environments),
                count_cell(monthly.requests),
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


def break_even_table(summary: Summary) -> Table:
    """From how many requests a month which strategy is cheaper."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(point.variant)),
                text_cell(STRATEGY_NAMES[point.cheaper_below]),
                text_cell(STRATEGY_NAMES[point.cheaper_above]),
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


def constraints_table(summary: Summary) -> Table:
    """Each demand of the goal, held against each function."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(constraint.variant)),
                text_cell(CONSTRAINT_NAMES[constraint.name]),
                number_cell(constraint.limit),
                estimate_cell(constraint.found),
                TableCell(text=constraint.verdict, verdict=constraint.verdict),
                number_cell(constraint.short_by),
                text_cell(constraint.text),
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


def choice_table(summary: Summary) -> Table:
    """The Pareto front and the probability of being best."""
    best = summary.recommendation.probability_best
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(point.variant)),
                TableCell(text=usd_text(point.usd_per_million), value=point.usd_per_million, numeric=True),
                number_cell(point.latency_ms),
                number_cell(point.top1_accuracy),
                text_cell("on the front" if point.on_front else _dominated(point.dominated_by)),
                share_cell(best.get(point.variant)),
                text_cell("tied with the recommendation" if point.variant in summary.recommendation.tied else ""),
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
            "Remark",
            text=(0, 4, 6),
        ),
        rows=tuple(rows),
    )


def _dominated(by: str | None) -> str:
    return f"dominated by {key_name(by)}" if by else "dominated"


def knees_table(summary: Summary) -> Table:
    """The memory size from which more hardly helps."""
    rows = [
        TableRow(
            cells=(
                text_cell(model_name(knee.model)),
                text_cell(metric_label(knee.metric)),
                count_cell(knee.memory_mb),
                text_cell(knee.reason),
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


def table1(summary: Summary) -> Table:
    """The paper's Table 1, measured beside quoted."""
    rows = [
        TableRow(
            cells=(
                text_cell(row.display_name),
                number_cell(row.size_mb, reason=row.reason if row.size_mb is None else ""),
                number_cell(row.paper_size_mb),
                number_cell(None if row.parameters is None else row.parameters / 1e6),
                number_cell(None if row.multiply_adds is None else row.multiply_adds / 1e9),
                number_cell(None if row.paper_multiply_adds is None else row.paper_multiply_adds / 1e9),
                number_cell(row.top1_accuracy),
                number_cell(row.paper_top1_accuracy),
                number_cell(row.top5_accuracy),
                number_cell(row.paper_top5_accuracy),
                text_cell(", ".join(row.weights)),
                text_cell(row.accuracy_source),
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


def coverage_table(summary: Summary) -> Table:
    """Found in the logs, of what was sent."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(coverage.variant)),
                text_cell(coverage.experiment),
                count_cell(coverage.sent),
                count_cell(coverage.expected),
                count_cell(coverage.found),
                count_cell(coverage.missing),
                count_cell(coverage.logs_only),
                share_cell(coverage.share, reason=coverage.reason),
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


def checks_table(summary: Summary) -> Table:
    """CloudWatch's statistics beside our own."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(check.variant)),
                text_cell(check.metric),
                text_cell(check.statistic),
                number_cell(check.cloudwatch),
                number_cell(check.own),
                number_cell(check.difference_percent, digits=2),
                text_cell("unknown" if check.agrees is None else "yes" if check.agrees else "no"),
                text_cell(check.reason),
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


def flat(node: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, str) else json.dumps(node, ensure_ascii=False)


def pairs_table(table_id: str, caption: str, pairs: Iterable[tuple[str, Any]], head: str = "Key") -> Table:
    return Table(
        id=table_id,
        caption=caption,
        columns=_columns(head, "Value", text=(0, 1)),
        rows=tuple(TableRow(cells=(text_cell(key), text_cell(value))) for key, value in pairs),
    )


def run_pairs(summary: Summary) -> list[tuple[str, str]]:
    origin = summary.origin
    return [
        ("Run", summary.run_id),
        ("Started", moment_text(summary.started_at)),
        ("Finished", moment_text(summary.finished_at)),
        ("Ended because", summary.stopped_because or "unknown"),
        ("Source", origin.source),
        ("Region", origin.region),
        ("Account", origin.account_id),
        ("Host", origin.host or NO_NUMBER),
        ("Host CPUs", count_text(origin.host_cpus)),
        (
            "Limits",
            ", ".join(f"{name} {value}" for name, value in origin.limits.model_dump().items()),
        ),
        ("Time scale", count_text(origin.time_scale)),
        ("Not modelled", ", ".join(origin.not_modelled) or "nothing named"),
        ("Commit", summary.commit or "unknown"),
        ("Profile", summary.profile or "none"),
        ("Seed", str(summary.seed)),
        ("Invocations", f"{summary.invocations:,}"),
        *((f"Version of {name}", version) for name, version in sorted(summary.versions.items())),
    ]


def price_pairs(summary: Summary) -> list[tuple[str, str]]:
    prices = summary.prices
    return [
        ("As of", prices.as_of),
        ("Region", prices.region),
        ("Source", prices.source),
        *((key, f"{value:.12g}") for key, value in sorted(prices.values.items())),
        *((f"{key} (overridden)", f"{value:.12g}") for key, value in sorted(prices.overrides.items())),
    ]


def claim_table(claim: Claim) -> Table:
    """The numbers a verdict rests on."""
    rows = tuple(
        TableRow(
            cells=(
                text_cell(number.label),
                number_cell(number.value),
                text_cell(
                    NO_NUMBER
                    if number.low is None or number.high is None
                    else f"{number_text(number.low)} to {number_text(number.high)}"
                ),
                text_cell(number.unit),
                count_cell(number.n),
            )
        )
        for number in claim.numbers
    )
    return Table(
        id=f"claim-{claim.id}-numbers",
        caption=f"Numbers of {claim.id}",
        columns=_columns("What", "Value", "95 % interval", "Unit", "n", text=(0, 2, 3)),
        rows=rows,
    )


def figure_table(figure: Figure) -> Table | None:
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
                cells.append(text_cell("" if value is None else value))
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
