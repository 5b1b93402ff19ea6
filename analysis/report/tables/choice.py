"""Tables of cost and of the choice. No I/O."""

from __future__ import annotations

from typing import Final

from analysis.report.tables.parts import (
    Table,
    TableCell,
    TableRow,
    columns_of,
    count_cell,
    estimate_cell,
    filterable,
    number_cell,
    share_cell,
    text_cell,
)
from analysis.report.wording import (
    NO_NUMBER,
    STRATEGY_NAMES,
    key_name,
    metric_label,
    model_name,
    usd_text,
)
from analysis.summary import Summary


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
            attributes=filterable(cost.variant),
            mark="recommended" if cost.variant == summary.recommendation.variant else "",
        )
        for cost in summary.costs
    ]
    return Table(
        id="costs",
        caption="USD per million predictions",
        note=(
            f"Prices of {summary.prices.as_of}, {summary.prices.region}. The mean adds up to a bill, and its interval "
            "is approximate; that of the median is exact. ECR storage, a monthly charge, is in the month's cost alone"
            + ("; calls that failed are in the table below" if summary.failed_costs else "")
        ),
        columns=columns_of(
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


def failed_costs_table(summary: Summary) -> Table:
    """What was billed for calls that failed."""
    rows = [
        TableRow(
            cells=(
                text_cell(key_name(cost.variant)),
                count_cell(cost.failed),
                count_cell(cost.billed),
                number_cell(cost.billed_ms / 1000),
                TableCell(text=usd_text(cost.usd), value=cost.usd, numeric=True),
                share_cell(cost.share_of_billed),
            ),
            attributes=filterable(cost.variant),
        )
        for cost in summary.failed_costs
    ]
    return Table(
        id="failed-costs",
        caption="Billed for calls that failed, over the whole run",
        note=(
            "Time in the function and request fee, in no other cost here. Counted as the logs state it: a failed init, "
            "or one for an environment that never got a call, is billed in vain and is missing where no report of a "
            "call holds it"
        ),
        columns=columns_of(
            "Function", "Failed", "With billed time", "Billed s", "USD", "Share of all billed time", text=(0,)
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
                text_cell("as needed") if monthly.strategy == "on_demand" else count_cell(monthly.environments),
                count_cell(monthly.requests),
            ),
            attributes=filterable(monthly.variant),
            mark="recommended"
            if (monthly.variant, monthly.strategy) == (summary.recommendation.variant, summary.recommendation.strategy)
            else "",
        )
        for monthly in summary.monthly
    ]
    return Table(
        id="monthly",
        caption="USD a month for the stated traffic",
        columns=columns_of(
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
            attributes=filterable(point.variant),
        )
        for point in summary.break_even
    ]
    return Table(
        id="break-even",
        caption="Break-even points",
        columns=columns_of("Function", "Cheaper below", "Cheaper above", "Requests a month", text=(0, 1, 2)),
        rows=tuple(rows),
    )


CONSTRAINT_NAMES: Final = {
    "bad_share": "share of bad calls",
    "top1_accuracy": "top-1 accuracy",
    "cold_share": "cold share",
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
            attributes=filterable(constraint.variant),
        )
        for constraint in summary.recommendation.constraints
    ]
    return Table(
        id="constraints",
        caption="The goal, held against every function",
        columns=columns_of(
            "Function", "Demand", "Limit", "Found", "Verdict", "Short by", "In words", text=(0, 1, 4, 6)
        ),
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
            attributes=filterable(point.variant),
            mark="recommended" if point.variant == summary.recommendation.variant else "",
        )
        for point in summary.pareto
    ]
    return Table(
        id="choice",
        caption="Cost, latency and accuracy of every function",
        note="Accuracy is quoted, not measured; probability of being best among those that meet the goal, by draws",
        columns=columns_of(
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
        columns=columns_of("Model", "Metric", "Memory, MB", "Why", text=(0, 1, 3)),
        rows=tuple(rows),
    )
