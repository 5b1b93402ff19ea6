"""`inference-lab analysis traffic`: simulate other traffic with the calls of a run, without measuring again."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

import polars as pl

from analysis.command_line import command_parser
from analysis.estimate.cells import ANALYSED_COLUMNS, Measured
from analysis.estimate.highest_rate import simulated_rate
from analysis.estimate.idle_life import LONGEST_MINUTES, SHORTEST_MINUTES, IdleLife, find_idle_life
from analysis.estimate.measured_calls import samples_of
from analysis.estimate.traffic import hourly_weights
from analysis.ingest.cloudwatch import CloudWatch
from analysis.ingest.run_files import read_image_gb, read_rows
from analysis.pipeline import run_configuration
from analysis.report.text import markdown_table
from core import strict_json
from core.aws.cloud import Cloud
from core.configuration import Configuration, GoalTable, ProvisionedTable
from core.errors import EXIT_OK, UserError
from core.money.charges import FRONT_DOORS
from core.money.price_list import prices_of_run
from core.money.prices import Prices
from core.program.command_line import bounded
from core.run.run_directory import RunDirectory, find_run
from core.variants import Variant
from simulation.arrivals import Arrivals, Counts, Shaped, shaped
from simulation.erlang import cheapest_level as cheapest_by_formula
from simulation.month import Band, Billing, Month, simulate
from simulation.pool import (
    Choice,
    NotMeasuredError,
    OnDemand,
    Pool,
    Provisioned,
    Samples,
    SnapStart,
    Strategy,
    TargetTracking,
    WarmPings,
)
from simulation.search import cheapest_level
from simulation.traces import parse_trace

CLOUDWATCH_DAYS: Final = 14  # one-minute metrics are kept for 15 days
POSITIVE: Final = bounded(float, "above 0", math.ulp(0))
COUNT: Final = bounded(int, "a whole number above 0", 1)
OBSERVED_MINUTES: Final = (SHORTEST_MINUTES, LONGEST_MINUTES)
REASON: Final = "Not known because"
SPAN: Final = "LOW[:HIGH]"


@dataclass(frozen=True)
class _Question:
    arrivals: Arrivals
    pool: Pool
    prices: Prices
    goal: GoalTable  # with the options' limit and share
    pings: int
    seed: int
    provisioned: ProvisionedTable


@dataclass(frozen=True)
class _Line:
    """A variant under a strategy: its month, or its highest rate, or the reason why there is neither."""

    variant: Variant
    strategy: str = ""
    month: Month | None = None
    highest_rps: float | None = None
    reason: str = ""

    def cells(self) -> dict[str, str]:
        """The line as people read it, by column."""
        head = {"Variant": self.variant.display_name} | ({"Strategy": self.strategy} if self.strategy else {})
        if self.reason:
            return head | {REASON: self.reason}
        if self.month is None:
            return head | {"highest rate, requests/s": f"{self.highest_rps:.3g}"}
        return head | {
            "p50 ms": f"{self.month.p50_ms.value:.0f}",
            "p99 ms": _band(self.month.p99_ms, ".0f"),
            "missed %": _band(self.month.missed_share, ".2g", 100),
            "cold %": _band(self.month.cold_share, ".2g", 100),
            "peak": f"{self.month.peak_concurrency.value:.0f}",
            "USD per month": _band(self.month.usd, ".2f"),
        }

    def facts(self) -> dict[str, Any]:
        """The line for a program: shares from 0 to 1; None for a percentile of callers who never get an answer."""
        facts: dict[str, Any] = {"variant": self.variant.key, "strategy": self.strategy, "reason": self.reason}
        if self.highest_rps is not None:
            facts["highest_rps"] = self.highest_rps
        if self.month is not None:
            names = ("p50_ms", "p99_ms", "missed_share", "cold_share", "peak_concurrency", "usd")
            for name in names:
                band = asdict(getattr(self.month, name))
                facts[name] = {end: value if math.isfinite(value) else None for end, value in band.items()}
        return facts


def _band(band: Band, form: str, factor: float = 1.0) -> str:
    return " ".join((f"{factor * band.value:{form}}", f"({factor * band.low:{form}} to {factor * band.high:{form}})"))


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "traffic",
        "Simulate a month of other traffic with the calls of a run: what callers get and what it costs.",
        takes_run=True,
    )
    add = parser.add_argument
    add("--variant", action="append", metavar="KEY", help="simulate this variant; may be repeated (default: all)")
    _add_arrivals(parser)
    add(
        "--idle-minutes",
        type=span,
        metavar=SPAN,
        help="minutes after which an idle environment is reclaimed (default: as the run shows, or 5:60)",
    )
    add(
        "--choice",
        choices=get_args(Choice),
        default="newest_first",
        help="which idle environment serves next (default: newest_first)",
    )
    add("--concurrency", type=COUNT, default=1000, metavar="N", help="most environments at once (default: 1000)")
    add(
        "--front-door",
        choices=FRONT_DOORS,
        default="rest_api",
        help="how callers reach the function (default: rest_api)",
    )
    add(
        "--retries",
        type=int,
        choices=range(11),
        default=0,
        metavar="N",
        help="retries of a caller, 0 to 10 (default: 0)",
    )
    add(
        "--pings",
        type=COUNT,
        default=1,
        metavar="N",
        help="schedules that ping the function every 4 minutes (default: 1)",
    )
    add("--limit-ms", type=POSITIVE, metavar="MS", help="longest wait of a caller, in ms (default: that of [goal])")
    add(
        "--max-missed",
        type=bounded(float, "between 0 and 1", 0, 1),
        metavar="SHARE",
        help="share of callers that may miss the limit, 0 to 1 (default: that of [goal])",
    )
    add("--highest-rate", action="store_true", help="find the highest rate that keeps --max-missed instead")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _add_arrivals(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--requests-per-day",
        type=POSITIVE,
        metavar="N",
        help="requests on an average day (default: that of [traffic] in the run)",
    )
    add(
        "--trace",
        type=Path,
        metavar="FILE",
        help="replay a CSV file: `timestamp`, `count` (per minute), or Azure's functions trace",
    )
    add("--from-function", metavar="NAME", help="replay the last 14 days of a live function, by its Invocations metric")
    add = parser.add_argument
    add(
        "--trace-function",
        default="",
        metavar="HASH",
        help="the function to replay of Azure's trace (default: all together)",
    )
    add(
        "--burstiness",
        type=span,
        default=(1.0, 1.0),
        metavar=SPAN,
        help="index of dispersion of the arrivals (default: 1, a Poisson process)",
    )
    add(
        "--batch-size",
        type=POSITIVE,
        default=1.0,
        metavar="N",
        help="mean number of simultaneous requests (default: 1)",
    )


def span(text: str) -> tuple[float, float]:
    """Parse LOW:HIGH, or one number for both."""
    low, _, high = text.partition(":")
    bounds = POSITIVE(low), POSITIVE(high or low)
    if bounds[0] > bounds[1]:
        raise argparse.ArgumentTypeError(f"{text} is not LOW:HIGH, with LOW at most HIGH")
    return bounds


def main(arguments: Sequence[str]) -> int:
    """Print a month of each variant under each strategy, or the highest rates."""
    chosen = build_parser().parse_args(arguments)
    run = find_run(chosen.run, chosen.results)
    manifest = run.read_manifest()
    configuration = run_configuration(manifest)
    calls = read_rows(run, [*ANALYSED_COLUMNS, "logged_at"])
    interval_minutes = configuration.experiments.cold.interval_minutes
    learnt = None if chosen.idle_minutes else find_idle_life(calls, interval_minutes, manifest.endpoint.time_scale)
    idle_minutes = chosen.idle_minutes or (learnt.minutes if learnt else OBSERVED_MINUTES)
    question = _question(chosen, configuration, prices_of_run(run, configuration.prices), idle_minutes)
    lines = list(_answers(run, calls, configuration, question, chosen))
    if chosen.json:
        print(strict_json.dumps([line.facts() for line in lines], indent=1))
    else:
        rows = [line.cells() for line in lines]
        head = tuple(dict.fromkeys(name for row in rows for name in row))
        print(markdown_table(head, [tuple(row.get(name, "") for name in head) for row in rows]))
        print(f"\nMeasured calls of {run.run_id}; prices of {question.prices.region}, {question.prices.as_of}.")
        print(_idle_text(question.pool.idle_minutes, learnt))
    return EXIT_OK


def _question(
    chosen: argparse.Namespace, configuration: Configuration, prices: Prices, idle_minutes: tuple[float, float]
) -> _Question:
    limit_s = configuration.gateway.integration_timeout_ms / 1000 if chosen.front_door == "rest_api" else None
    pool = Pool(
        idle_minutes=idle_minutes,
        choice=chosen.choice,
        concurrency=chosen.concurrency,
        front_door=chosen.front_door,
        front_door_limit_s=limit_s,
        caller_retries=chosen.retries,
    )
    asked = {"limit_ms": chosen.limit_ms, "max_bad_share": chosen.max_missed}
    return _Question(
        arrivals=_arrivals(chosen, configuration),
        pool=pool,
        prices=prices,
        goal=configuration.goal.model_copy(update={name: one for name, one in asked.items() if one is not None}),
        pings=chosen.pings,
        seed=configuration.experiments.seed,
        provisioned=configuration.provisioned,
    )


def _arrivals(chosen: argparse.Namespace, configuration: Configuration) -> Arrivals:
    if chosen.trace:
        try:
            with chosen.trace.open(encoding="utf-8", newline="") as file:
                return parse_trace(file, function=chosen.trace_function)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{chosen.trace} cannot be read: {error}", hint="Name a CSV file.") from None
    if chosen.from_function:
        cloud_watch = CloudWatch(Cloud())
        return Counts(cloud_watch.invocations_per_minute(chosen.from_function, time.time(), days=CLOUDWATCH_DAYS))
    if chosen.burstiness[0] < 1:
        raise UserError("--burstiness is below 1", hint="1 is a Poisson process; bursts have more.")
    traffic = configuration.traffic
    return shaped(
        chosen.requests_per_day or traffic.requests_per_day,
        hourly_weights(traffic.daily_shape),
        burstiness=chosen.burstiness,
        batch_size=max(1.0, chosen.batch_size),
    )


def _answers(
    run: RunDirectory, rows: pl.DataFrame, configuration: Configuration, question: _Question, chosen: argparse.Namespace
) -> Iterator[_Line]:
    known = {variant.key: variant for variant in configuration.variants}
    for key in chosen.variant or known:
        if key not in known:
            raise UserError(f"there is no variant {key!r}", hint=f"There are: {', '.join(known)}.")
    images = read_image_gb(run, known.values())
    measured = Measured(rows)
    for key in chosen.variant or known:
        samples, variant = samples_of(measured, key), known[key]
        billing = Billing(variant.memory_mb, variant.architecture, image_gb=images.get(variant.image, 0.0))
        if samples is None:
            yield _Line(variant, reason="no warm call was measured")
        elif chosen.highest_rate:
            yield _highest_rate(question, samples, variant)
        else:
            yield from _months(question, samples, variant, billing)


def _idle_text(minutes: tuple[float, float], learnt: IdleLife | None) -> str:
    source = learnt.source if learnt else "assumed"
    return f"Idle environments live {minutes[0]:.3g} to {minutes[1]:.3g} minutes, {source}."


def _months(question: _Question, samples: Samples, variant: Variant, billing: Billing) -> Iterator[_Line]:
    for name, strategy in _strategies(question, variant):
        try:
            month = (
                _provisioned(question, samples, billing)
                if strategy is None
                else _month(question, samples, billing, strategy)
            )
        except NotMeasuredError as error:
            yield _Line(variant, name, reason=error.message)
            continue
        if month is None:
            yield _Line(variant, name, reason="no level keeps the share that may miss")
            continue
        level = f" ({month.strategy.levels[0]})" if isinstance(month.strategy, Provisioned) else ""
        yield _Line(variant, name + level, month)


def _strategies(question: _Question, variant: Variant) -> Iterator[tuple[str, Strategy | None]]:
    """Strategies that a variant's calls can simulate; a start mode other than on demand only its own."""
    if variant.start == "snapstart":
        yield "SnapStart", SnapStart()
        return
    if variant.start == "provisioned":
        table = question.provisioned
        yield "provisioned", Provisioned((table.concurrency,))
        if table.track_up_to:
            yield "target tracking", TargetTracking(table.target_utilization, table.concurrency, table.track_up_to)
        return
    yield "on demand", OnDemand()
    yield "SnapStart", SnapStart()
    yield "provisioned", None
    yield "target tracking", TargetTracking()
    yield f"warm pings ({question.pings})", WarmPings(question.pings)


def _month(question: _Question, samples: Samples, billing: Billing, strategy: Strategy) -> Month:
    return simulate(
        samples,
        question.arrivals,
        question.pool,
        strategy,
        billing,
        question.prices,
        limit_ms=question.goal.limit_ms,
        seed=question.seed,
    )


def _provisioned(question: _Question, samples: Samples, billing: Billing) -> Month | None:
    """Return the cheapest provisioned level; where none keeps the share that may miss, None."""
    first = 1
    if isinstance(question.arrivals, Shaped):
        loads = [rate * float(samples.warm.busy_ms.mean()) / 1000 for rate in question.arrivals.hourly_rps]
        first = cheapest_by_formula(loads, billing.memory_mb, billing.architecture, question.prices)[0]
    return cheapest_level(
        lambda level: _month(question, samples, billing, Provisioned((level,))),
        first=max(1, first),
        max_missed_share=question.goal.max_bad_share,
    )


def _highest_rate(question: _Question, samples: Samples, variant: Variant) -> _Line:
    """Search with Poisson arrivals at a constant rate, started as the variant is deployed."""
    try:
        rate_rps = simulated_rate(
            samples,
            question.pool,
            variant,
            question.prices,
            question.goal,
            seed=question.seed,
            provisioned=question.provisioned.concurrency,
        )
    except NotMeasuredError as error:
        return _Line(variant, reason=error.message)
    return _Line(variant, highest_rps=rate_rps)
