"""The plan in figures, before anything is called."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from core.configuration import PILOT_CALLS, Configuration
from core.prices import Prices
from core.records import Experiment
from experiments.checks.at_rest import rest_costs
from experiments.checks.spend import LONGEST_INIT_S, Estimate, estimate, total, usd
from experiments.plan import Step, deciding_on, planned_environments, steps
from loadtests.arrivals import shape_of


def planned_steps(configuration: Configuration, experiments: Sequence[Experiment], *, time_scale: float) -> list[Step]:
    arrivals = round(shape_of(configuration.experiments.load).expected_arrivals)
    return steps(configuration, experiments, arrivals=arrivals, time_scale=time_scale)


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
    """Print one row a protocol, and the sum, to standard output."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("experiment", "protocol"):
        table.add_column(heading, no_wrap=True)
    for heading in ("variants", "calls", "duration", "expected USD", "at most USD"):
        table.add_column(heading, justify="right", no_wrap=True)
    limit_usd = configuration.experiments.max_usd
    by_protocol: dict[tuple[str, str], list[Step]] = {}
    for step in planned:
        by_protocol.setdefault((step.experiment, step.protocol), []).append(step)
    for (experiment, protocol), members in by_protocol.items():
        figures = total([estimate(step, configuration, prices) for step in members])
        table.add_row(experiment, protocol, str(len(members)), *_cells(figures, limit_usd))
    whole = total([estimate(step, configuration, prices) for step in planned])
    table.add_section()
    table.add_row("all", "", "", *_cells(whole, limit_usd))
    Console(width=100).print(table)
    print(_remarks(planned, whole, configuration, prices))


def _cells(figures: Estimate, limit_usd: float) -> list[str]:
    minutes = figures.duration_s / 60
    duration = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.1f} min"
    return [f"{figures.calls:,}", duration, f"{figures.expected_usd:.3f}", f"{figures.upper_usd(limit_usd):,.2f}"]


def _remarks(planned: Sequence[Step], whole: Estimate, configuration: Configuration, prices: Prices) -> str:
    limit_usd, timeout_s = configuration.experiments.max_usd, configuration.function.timeout_s
    longest = f"{LONGEST_INIT_S:g} s of init and the timeout of {timeout_s} s"
    at_most = f"At most: every call billed as long as Lambda lets it run, {longest}"
    if whole.upper_usd(limit_usd) < whole.longest_usd:
        under_way = f"pays for what is under way then, {usd(whole.under_way_usd)}"
        at_most += f""", which is {usd(whole.longest_usd)};
but a run stops when its billed time has cost the limit, and {under_way}"""
    return f"""\
{_until_decided(planned, configuration)}\
Expected: the CPU time each model needs on one core, divided by the share of its memory size; another function differs.
{at_most}.
Limit: {usd(limit_usd)} (--max-usd). A plan expected to cost more is refused.
Prices of {prices.as_of}: compute, requests and REST API, without a free tier; a lab charges nothing."""


def _until_decided(planned: Sequence[Step], configuration: Configuration) -> str:
    """What a decision is expected to take, where one was asked for."""
    warm = configuration.experiments.warm
    if not warm.until_decided or all(step.experiment != "warm" for step in planned):
        return ""
    sizes = max((planned_environments(*deciding_on(configuration, one)) for one in warm.connections), key=sum)
    return f"""\
Until decided: without a bad call, {sum(sizes)} samples in {len(sizes)} environments show that a variant meets the goal.
A variant that fails or costs more takes fewer, {PILOT_CALLS * warm.environments} at least; a close one up to \
{warm.max_samples}.
"""
