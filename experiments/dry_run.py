"""The plan in figures, before anything is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from core.configuration import PILOT_CALLS, Configuration
from core.money.prices import Prices
from experiments.checks.at_rest import rest_costs
from experiments.checks.spend import (
    LONGEST_INIT_S,
    TASK_START_S,
    Estimate,
    capacity_usd,
    estimate,
    total,
    usd,
    whole_plan,
)
from experiments.plan import Step, deciding_on, planned_environments


@dataclass(frozen=True)
class PlanRow:
    """One protocol of the plan; "all" is the sum."""

    experiment: str
    protocol: str
    variants: int
    calls: int
    duration_s: float
    expected_usd: float
    at_most_usd: float


def plan_rows(planned: Sequence[Step], configuration: Configuration, prices: Prices) -> list[PlanRow]:
    """One row per protocol, and the sum."""
    by_protocol: dict[tuple[str, str], list[Step]] = {}
    for step in planned:
        by_protocol.setdefault((step.experiment, step.protocol), []).append(step)
    limit_usd = configuration.experiments.max_usd

    def row(experiment: str, protocol: str, members: Sequence[Step], figures: Estimate) -> PlanRow:
        return PlanRow(
            experiment,
            protocol,
            variants=len({step.variant.key for step in members}),
            calls=figures.calls,
            duration_s=figures.duration_s,
            expected_usd=figures.expected_usd,
            at_most_usd=figures.upper_usd(limit_usd),
        )

    rows = [
        row(*names, members, total([estimate(step, configuration, prices) for step in members]))
        for names, members in by_protocol.items()
    ]
    whole = whole_plan(planned, configuration, prices)
    if kept_usd := capacity_usd(configuration, whole.duration_s, prices):
        kept = sum(configuration.provisioned_environments(variant) > 0 for variant in configuration.variants)
        most_usd = capacity_usd(configuration, whole.duration_s, prices, at_most=True)
        rows.append(PlanRow("all", "provisioned", kept, 0, whole.duration_s, kept_usd, most_usd))
    return [*rows, row("all", "", planned, whole)]


def plan_facts(planned: Sequence[Step], configuration: Configuration, prices: Prices) -> dict[str, Any]:
    """The plan for a program: what `print_plan` prints, with the limit and the date of the prices."""
    return {
        "plan": [asdict(row) for row in plan_rows(planned, configuration, prices)],
        "max_usd": configuration.experiments.max_usd,
        "prices_as_of": prices.as_of,
    }


def print_rest(configuration: Configuration, planned: Sequence[Step], prices: Prices) -> None:
    """Print what the deployment costs per month while nobody measures, to standard output."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("at rest", no_wrap=True)
    table.add_column("USD per month", justify="right", no_wrap=True)
    table.add_column("for")
    costs = rest_costs(configuration, planned, prices)
    for cost in costs:
        table.add_row(cost.what, f"{cost.monthly_usd:.3f}", cost.how)
    table.add_section()
    table.add_row("all", f"{sum(cost.monthly_usd for cost in costs):.3f}", "")
    Console(width=100).print(table)


def print_plan(planned: Sequence[Step], configuration: Configuration, prices: Prices) -> None:
    """Print one row per protocol, and the sum, to standard output."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("experiment", "protocol"):
        table.add_column(heading, no_wrap=True)
    for heading in ("variants", "calls", "duration", "expected USD", "at most USD"):
        table.add_column(heading, justify="right", no_wrap=True)
    *rows, whole = plan_rows(planned, configuration, prices)
    for row in rows:
        table.add_row(row.experiment, row.protocol, str(row.variants), *_cells(row))
    table.add_section()
    table.add_row("all", "", "", *_cells(whole))
    Console(width=100).print(table)
    figures = whole_plan(planned, configuration, prices)
    print(_remarks(planned, figures, configuration, prices))


def _cells(row: PlanRow) -> list[str]:
    minutes = row.duration_s / 60
    duration = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.1f} min"
    return [f"{row.calls:,}", duration, f"{row.expected_usd:.3f}", f"{row.at_most_usd:,.2f}"]


def _remarks(planned: Sequence[Step], whole: Estimate, configuration: Configuration, prices: Prices) -> str:
    limit_usd, timeout_s = configuration.experiments.max_usd, configuration.function.timeout_s
    longest = f"{LONGEST_INIT_S:g} s of init and the timeout of {timeout_s} s"
    at_most = f"At most: every call billed as long as Lambda lets it run, {longest}"
    if whole.upper_usd(limit_usd) < whole.longest_usd:
        under_way = f"{usd(whole.under_way_usd)} for calls in progress at that moment"
        at_most += f""", which is {usd(whole.longest_usd)};
but a run stops when its billed time reaches the limit, plus {under_way}"""
    return f"""\
{_until_decided(planned, configuration)}{_on_fargate(planned)}\
Expected: the CPU time each model needs on one core, divided by the share of its memory size. Other functions differ.
{at_most}.
Limit: {usd(limit_usd)} (--max-usd). A plan expected to cost more is refused.
Prices of {prices.as_of}: compute, requests and REST API, without a free tier; a lab charges nothing."""


def _until_decided(planned: Sequence[Step], configuration: Configuration) -> str:
    """Return the expected calls of a decision, if `--until-decided` was given."""
    warm = configuration.experiments.warm
    if not warm.until_decided or all(step.experiment != "warm" for step in planned):
        return ""
    sizes = max((planned_environments(*deciding_on(configuration, one)) for one in warm.connections), key=sum)
    return f"""\
Until decided: without a bad call, {sum(sizes)} samples in {len(sizes)} environments show that a variant meets the goal.
A variant that fails or costs more takes fewer, {PILOT_CALLS * warm.environments} at least; a close one up to \
{warm.max_samples}.
"""


def _on_fargate(planned: Sequence[Step]) -> str:
    """Return the load's machines, if it runs on Fargate."""
    tasks = max((step.tasks for step in planned), default=0)
    return (
        f"Load: the cost has {tasks} Fargate tasks and their traffic, with {TASK_START_S:g} s of start for each load.\n"
        if tasks
        else ""
    )
