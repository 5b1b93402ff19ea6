"""Tables of cost and of the choice. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from analysis.report.tables.parts import (
    Table,
    TableCell,
    count_cell,
    estimate_cell,
    filters,
    make_table,
    share_cell,
    usd_cell,
)
from analysis.report.wording import STRATEGY_NAMES, metric_label
from analysis.summary import AS_NEEDED, CostPerMillion, ParetoPoint, Summary
from core.models import ENGINE_NAMES


def costs_table(summary: Summary) -> Table:
    """Cost per million predictions and its parts."""
    failed = "; calls that failed are in the table below" if summary.failed_costs else ""

    def part(name: str) -> tuple[str, Callable[[CostPerMillion], TableCell]]:
        return name.capitalize(), lambda cost: usd_cell(cost.parts.get(name))

    return make_table(
        "costs",
        "USD per million predictions",
        summary.costs,
        (
            ("Function", lambda cost: summary.name_of(cost.variant)),
            ("Start", lambda cost: cost.start_type),
            ("At the mean", lambda cost: estimate_cell(cost.usd, money=True, reason="no data")),
            ("At the median", lambda cost: estimate_cell(cost.median_usd, money=True, reason="no data")),
            *(part(name) for name in dict.fromkeys(name for cost in summary.costs for name in cost.parts)),
            ("Without gateway", lambda cost: usd_cell(cost.without_gateway_usd)),
            ("Mean billed ms", lambda cost: cost.billed_ms_mean),
            ("GB-s", lambda cost: cost.gb_seconds),
        ),
        attributes=lambda cost: filters(summary, cost.variant),
        recommended=lambda cost: cost.variant == summary.recommendation.variant,
        note=(
            f"Prices of {summary.prices.as_of}, {summary.prices.region}. The mean adds up to a bill, and its interval "
            "is approximate; that of the median is exact. ECR storage, a monthly charge, is in the month's cost alone"
            f"{failed}"
        ),
    )


def failed_costs_table(summary: Summary) -> Table:
    """Return the table of costs of calls that failed."""
    return make_table(
        "failed-costs",
        "Billed for calls that failed, over the whole run",
        summary.failed_costs,
        (
            ("Function", lambda cost: summary.name_of(cost.variant)),
            ("Failed", lambda cost: cost.failed),
            ("With billed time", lambda cost: cost.billed),
            ("Billed s", lambda cost: cost.billed_ms / 1000),
            ("USD", lambda cost: usd_cell(cost.usd)),
            ("Share of all billed time", lambda cost: share_cell(cost.share_of_billed)),
        ),
        attributes=lambda cost: filters(summary, cost.variant),
        note=(
            "Time in the function and request fee, in no other cost here. Counted as the logs state it: a failed init, "
            "or one for an environment that never got a call, is billed in vain and is missing where no report of a "
            "call holds it"
        ),
    )


def monthly_table(summary: Summary) -> Table:
    """Cost of a month by strategy."""
    best = summary.recommendation
    return make_table(
        "monthly",
        "USD per month for the stated traffic",
        summary.monthly,
        (
            ("Function", lambda month: summary.name_of(month.variant)),
            ("Strategy", lambda month: STRATEGY_NAMES[month.strategy]),
            ("USD per month", lambda month: usd_cell(month.usd, reason=month.reason)),
            ("Expected cold share", lambda month: share_cell(month.expected_cold_share)),
            (
                "Environments",
                lambda month: "as needed" if month.strategy in AS_NEEDED else count_cell(month.environments),
            ),
            ("Requests", lambda month: count_cell(month.requests)),
        ),
        attributes=lambda month: filters(summary, month.variant),
        recommended=lambda month: (month.variant, month.strategy) == (best.variant, best.strategy),
    )


def break_even_table(summary: Summary) -> Table:
    """Return the table of break-even points between strategies."""
    return make_table(
        "break-even",
        "Break-even points",
        summary.break_even,
        (
            ("Function", lambda point: summary.name_of(point.variant)),
            ("Cheaper below", lambda point: STRATEGY_NAMES[point.cheaper_below]),
            ("Cheaper above", lambda point: STRATEGY_NAMES[point.cheaper_above]),
            ("Requests per month", lambda point: count_cell(point.requests_per_month, reason=point.reason)),
        ),
        attributes=lambda point: filters(summary, point.variant),
    )


CONSTRAINT_NAMES: Final = {
    "bad_share": "share of bad calls",
    "top1_accuracy": "top-1 accuracy",
    "cold_share": "cold share",
}


def constraints_table(summary: Summary) -> Table:
    """Each demand of the goal, held against each function."""
    return make_table(
        "constraints",
        "The goal, held against every function",
        summary.recommendation.constraints,
        (
            ("Function", lambda constraint: summary.name_of(constraint.variant)),
            ("Demand", lambda constraint: CONSTRAINT_NAMES[constraint.name]),
            ("Limit", lambda constraint: constraint.limit),
            ("Found", lambda constraint: constraint.found),
            ("Verdict", lambda constraint: TableCell(text=constraint.verdict, verdict=constraint.verdict)),
            ("Short by", lambda constraint: constraint.short_by),
            ("In words", lambda constraint: constraint.text),
        ),
        attributes=lambda constraint: filters(summary, constraint.variant),
    )


def choice_table(summary: Summary) -> Table:
    """The Pareto front and the probability of being best."""
    best = summary.recommendation

    def front(point: ParetoPoint) -> str:
        by = f" by {summary.name_of(point.dominated_by)}" if point.dominated_by else ""
        return "on the front" if point.on_front else f"dominated{by}"

    return make_table(
        "choice",
        "Cost, latency and accuracy of every function",
        summary.pareto,
        (
            ("Function", lambda point: summary.name_of(point.variant)),
            ("USD per million", lambda point: usd_cell(point.usd_per_million)),
            ("Warm median, ms", lambda point: point.latency_ms),
            ("Top-1 accuracy", lambda point: point.top1_accuracy),
            ("Pareto front", front),
            ("Best with probability", lambda point: share_cell(best.probability_best.get(point.variant))),
            ("Remark", lambda point: "tied with the recommendation" if point.variant in best.tied else ""),
        ),
        attributes=lambda point: filters(summary, point.variant),
        recommended=lambda point: point.variant == best.variant,
        note="Accuracy is quoted, not measured; probability of being best among those that meet the goal, by draws",
    )


def knees_table(summary: Summary) -> Table:
    """The memory size from which more hardly helps."""
    return make_table(
        "knees",
        "Where more memory hardly helps",
        summary.knees,
        (
            ("Model", lambda knee: knee.image.display_name),
            ("Engine", lambda knee: ENGINE_NAMES.get(knee.engine, knee.engine)),
            ("Metric", lambda knee: metric_label(knee.metric)),
            ("Memory, MB", lambda knee: count_cell(knee.memory_mb)),
            ("Why", lambda knee: knee.reason),
        ),
        attributes=lambda knee: {
            "model": knee.model,
            "engine": knee.image.group,
        },
    )
