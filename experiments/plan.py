"""The plan of a run: its calls, their order, and their ids. No I/O.

Ids and orders follow from the configuration and the seed alone, so a resumed run finds the same plan again and
leaves out what its records hold already.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from core.configuration import PILOT_CALLS, Configuration, WarmTable
from core.run.records import Experiment, Trigger
from core.run.stages import SEARCH
from core.statistics.deciding import Goal, expected_plan
from core.variants import Variant
from loadtests.arrivals import shape_of
from loadtests.plan import planned_arrivals, planned_duration_s

Connection = Literal["kept", "new", "none"]
T = TypeVar("T")

SECONDS_PER_MINUTE: Final = 60.0
# After this many calls in a row that another attempt would not fix, a variant counts as unable to run.
GIVE_UP_AFTER: Final = 3
PARALLEL_WARMUPS: Final = 2  # first calls of so many variants at once: nobody reads their latency as a sample
LOGGED_WITHIN_S: Final = 60.0  # after a function has ended, its report was read in the logs
STOPPED_WITHIN_S: Final = 5.0  # after a load has cost the limit, it has sent its last call
UNRECOVERABLE: Final = frozenset({"out_of_memory", "init_timeout", "timeout", "error"})


@dataclass(frozen=True)
class PlannedCall:
    """One call of the plan; `call_id` names it in the records and is the same in every attempt of the run."""

    call_id: str
    experiment: Experiment
    protocol: str
    trigger: Trigger
    variant: Variant
    warmup: bool = False
    group: str = ""
    connection: Connection = "none"


def shuffled(items: Sequence[T], seed: int, *scope: object) -> list[T]:
    """The items in an order that depends on seed and scope alone."""
    ordered = list(items)
    random.Random("/".join(str(part) for part in (seed, *scope))).shuffle(ordered)  # noqa: S311 - an order, no secret
    return ordered


# --- cold ------------------------------------------------------------------------------------------------------------


def forced_calls(
    variants: Sequence[Variant], samples: int, seed: int, *, through_gateway: bool = False
) -> list[PlannedCall]:
    """Calls, each after a forced update: every variant once per round, each round in its own order.

    They are direct invokes, or calls of the REST endpoint, each on a new connection.
    """
    protocol = "gateway" if through_gateway else "forced"
    trigger: Trigger = "api" if through_gateway else "invoke"
    connection: Connection = "new" if through_gateway else "none"
    return [
        PlannedCall(
            f"cold/{protocol}/{variant.key}/{number:04d}", "cold", protocol, trigger, variant, connection=connection
        )
        for number in range(samples)
        for variant in shuffled(variants, seed, protocol, number)
    ]


def spillover_call(call: PlannedCall) -> PlannedCall | None:
    """Return the on-demand call that accompanies a forced one of provisioned concurrency; None for any other."""
    if call.variant.start != "provisioned" or call.protocol != "forced":
        return None
    return replace(call, call_id=call.call_id.replace("/forced/", "/spillover/", 1), protocol="spillover")


def still_to_make(calls: Sequence[PlannedCall], outcomes: Mapping[str, str]) -> list[PlannedCall]:
    """Return the calls that a resumed run has left, given the outcome of each recorded call id.

    A call without a connection says nothing about its function, so it is repeated under a new id: the first
    one's record stays.
    """
    return [left for call in calls if (left := _left_of(call, outcomes)) is not None]


def _left_of(call: PlannedCall, outcomes: Mapping[str, str]) -> PlannedCall | None:
    attempt, number = call, 0
    while (outcome := outcomes.get(attempt.call_id)) is not None:
        if outcome != "connection":
            return None
        number += 1
        attempt = replace(call, call_id=f"{call.call_id}-again-{number}")
    return attempt


@dataclass(frozen=True)
class Burst:
    """First calls of one variant that are sent together."""

    variant: Variant
    size: int
    calls: tuple[PlannedCall, ...]


def bursts(variants: Sequence[Variant], sizes: Sequence[int], repeats: int, seed: int) -> list[Burst]:
    """Every variant and size once per round, each round in its own order."""
    pairs = [(variant, size) for variant in variants for size in sizes]
    found = []
    for repeat in range(repeats):
        for variant, size in shuffled(pairs, seed, "burst", repeat):
            group, ids = f"burst-{size}/{variant.key}/{repeat}", f"cold/burst-{size}/{variant.key}/{repeat:02d}"
            calls = (
                PlannedCall(f"{ids}/{number:04d}", "cold", "burst", "invoke", variant, group=group)
                for number in range(size)
            )
            found.append(Burst(variant, size, tuple(calls)))
    return found


@dataclass(frozen=True)
class Window:
    """The fires one variant's schedule is asked for: `count` of them from `start_at` on, numbered from `first`."""

    variant: Variant
    start_at: float
    interval_s: float
    first: int
    count: int

    @property
    def end_at(self) -> float:
        """End date of the schedule: half an interval after the last fire, so that none is cut off and none follows."""
        return self.start_at + (self.count - 0.5) * self.interval_s

    def fires(self) -> Iterator[tuple[PlannedCall, float]]:
        """Planned call and expected time of each fire."""
        for number in range(self.count):
            yield scheduled_call(self.variant, self.first + number), self.start_at + number * self.interval_s


def scheduled_call(variant: Variant, number: int) -> PlannedCall:
    return PlannedCall(f"cold/scheduled/{variant.key}/{number:04d}", "cold", "scheduled", "schedule", variant)


def windows(
    variants: Sequence[Variant], *, remaining: dict[Variant, tuple[int, int]], now: float, interval_s: float
) -> list[Window]:
    """Windows of all variants, staggered evenly over one interval.

    Simultaneous cold starts would share the account's concurrency and, in a lab, the host's CPUs.
    `remaining` says for each variant the number of its next fire and how many are still wanted.
    """
    wanted = [variant for variant in variants if remaining[variant][1] > 0]
    return [
        Window(variant, now + index / len(wanted) * interval_s, interval_s, *remaining[variant])
        for index, variant in enumerate(wanted)
    ]


# --- warm ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """The warm samples of one variant over one kind of connection."""

    variant: Variant
    connection: Connection

    @property
    def key(self) -> str:
        return f"{self.variant.key}/{self.connection}"

    def warmup(self, environment: int, number: int) -> PlannedCall:
        return self._call(f"warmup-{environment:03d}-{number:03d}", environment, warmup=True)

    def sample(self, environment: int, number: int) -> PlannedCall:
        """Return one sample; `number` counts over all environments."""
        return self._call(f"{number:06d}", environment, warmup=False)

    def _call(self, name: str, environment: int, *, warmup: bool) -> PlannedCall:
        return PlannedCall(
            f"warm/{self.key}/{name}",
            "warm",
            "sequential",
            "api",
            self.variant,
            warmup=warmup,
            group=f"environment-{environment}",
            connection=self.connection,
        )


def all_series(configuration: Configuration) -> list[Series]:
    return [
        Series(variant, connection)
        for variant in configuration.variants
        for connection in configuration.experiments.warm.connections
    ]


def deciding_on(configuration: Configuration, connection: str) -> tuple[WarmTable, Goal | None]:
    """Return the warm plan, and what the calls on one kind of connection decide: kept ones, where there are any."""
    table = configuration.experiments.warm
    decides = table.until_decided and connection == ("kept" if "kept" in table.connections else table.connections[0])
    goal = Goal(configuration.goal.limit_ms, configuration.goal.max_bad_share)
    return table, goal if decides else None


def planned_environments(table: WarmTable, goal: Goal | None) -> list[int]:
    """Return the samples of each environment of one series, as they are expected where no call is bad.

    For `--until-ci`, whose end nobody knows, the bound `max_samples` is counted.
    """
    if table.until_decided:
        return (
            expected_plan(table.environments, goal, table.max_samples) if goal else [PILOT_CALLS] * table.environments
        )
    samples = table.max_samples if table.until_ci_percent else table.samples
    environments = table.environment_of(samples - 1) + 1
    bounds = [min(samples, table.first_sample_of(number)) for number in range(environments + 1)]
    return [last - first for first, last in itertools.pairwise(bounds)]


# --- the whole -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One protocol's share of a run, as the dry run shows it and the spend limit judges it."""

    experiment: Experiment
    protocol: str
    variant: Variant
    cold_calls: int
    warm_calls: int
    through_gateway: bool
    under_way: int  # calls that may be sent and not counted yet at one moment: they cost on top when a run stops
    further_calls: int = 0  # that may follow where the plan's number is only expected
    further_updates: int = 0  # of which each may start further calls in a new environment
    forced_updates: int = 0
    tasks: int = 0  # of Fargate, which send it: a master and its workers
    fixed_s: float | None = None  # its duration, where the protocol sets it; else it follows from the calls


def steps(
    configuration: Configuration,
    experiments: Sequence[Experiment],
    *,
    time_scale: float = 1.0,
    workers: int = 0,
) -> list[Step]:
    """How many calls each protocol makes of each variant, as far as a plan can tell (`planned_environments`).

    `workers` are the Fargate tasks that send the load; 0 is this machine.
    """
    planned: list[Step] = []
    for experiment, variant in itertools.product(experiments, configuration.variants):
        if experiment == "cold":
            planned += _cold_steps(variant, configuration, time_scale)
        elif experiment == "warm":
            planned.append(_warm_step(variant, configuration))
        else:
            planned.append(_load_step(variant, configuration, workers))
    return planned


def _cold_steps(variant: Variant, configuration: Configuration, time_scale: float) -> Iterator[Step]:
    cold = configuration.experiments.cold

    def step(protocol: str, calls: tuple[int, int], *, under_way: int = 1, forced_updates: int = 0) -> Step:
        through_gateway = protocol == "gateway"
        return Step("cold", protocol, variant, *calls, through_gateway, under_way, forced_updates=forced_updates)

    if "scheduled" in cold.protocols:
        # The cycle is shared: all variants' schedules run side by side over the same time.
        cycle_s = cold.duration_minutes * SECONDS_PER_MINUTE / time_scale / len(configuration.variants)
        fires = step(
            "scheduled",
            starting_calls(variant, cold.scheduled_samples),
            under_way=_fires_under_way(configuration, time_scale),
        )
        yield replace(fires, fixed_s=cycle_s)
    if "forced" in cold.protocols:
        samples = cold.forced_samples
        yield step("forced", starting_calls(variant, samples), forced_updates=samples)
        if variant.start == "provisioned":
            yield step("spillover", (samples, 0))
    if "burst" in cold.protocols:
        for size in cold.burst_sizes:
            calls = (size * cold.burst_repeats, 0)
            yield step(f"burst-{size}", calls, under_way=size, forced_updates=cold.burst_repeats)
    if cold.gateway_samples:
        samples = cold.gateway_samples
        yield step("gateway", starting_calls(variant, samples), forced_updates=samples)


def _warm_step(variant: Variant, configuration: Configuration) -> Step:
    warm = configuration.experiments.warm
    planned = [planned_environments(*deciding_on(configuration, one)) for one in warm.connections]
    environments = max(map(len, planned))
    calls = sum(len(sizes) * warm.warmups + sum(sizes) for sizes in planned)
    further = max(0, warm.max_samples - sum(max(planned, key=sum))) if warm.until_decided else 0
    return Step(
        "warm",
        "sequential",
        variant,
        *starting_calls(variant, environments, of=calls),
        through_gateway=True,
        under_way=PARALLEL_WARMUPS,
        further_calls=further + math.ceil(further / PILOT_CALLS) * warm.warmups,
        forced_updates=environments if warm.replaces_environments else 0,
        further_updates=math.ceil(further / PILOT_CALLS),
    )


def _load_step(variant: Variant, configuration: Configuration, workers: int) -> Step:
    load, arrivals = configuration.experiments.load, planned_arrivals(configuration)
    return Step(
        "load",
        load.shape,
        variant,
        *starting_calls(variant, load.times, of=load.times * max(1, load.warmups + arrivals)),
        through_gateway=True,
        under_way=_load_under_way(configuration),
        further_calls=max(0, load.search_calls - arrivals) if load.shape == SEARCH else 0,
        forced_updates=load.times if load.times > 1 else 0,
        tasks=workers + 1 if workers else 0,
        fixed_s=load.times * planned_duration_s(configuration),
    )


def starting_calls(variant: Variant, first: int, *, of: int | None = None) -> tuple[int, int]:
    """Return how many calls start an environment, and how many find one: in provisioned ones, all do."""
    calls = first if of is None else of
    return (0, calls) if variant.start == "provisioned" else (first, calls - first)


def _fires_under_way(configuration: Configuration, time_scale: float) -> int:
    """Fires of one schedule whose logs may be still to come: they are counted as expected until then."""
    interval_s = configuration.experiments.cold.interval_minutes * SECONDS_PER_MINUTE / time_scale
    return 1 + math.ceil((configuration.function.timeout_s + LOGGED_WITHIN_S) / interval_s)


def _load_under_way(configuration: Configuration) -> int:
    """Calls of a load that have no record yet, and those that are sent until it has stopped."""
    load = configuration.experiments.load
    peak_rps = shape_of(load).peak_rps
    unanswered = min(load.max_in_flight, math.ceil(peak_rps * configuration.gateway.integration_timeout_ms / 1000))
    return unanswered + math.ceil(peak_rps * STOPPED_WITHIN_S)


def gave_up(experiment: Experiment, outcomes: Sequence[str]) -> bool:
    """Whether a variant's latest outcomes say that it cannot run here.

    A 504 shows that for warm calls, whose environment is ready. For a cold start, it is a sample like any other.
    """
    hopeless = UNRECOVERABLE | {"gateway_timeout"} if experiment == "warm" else UNRECOVERABLE
    return len(outcomes) >= GIVE_UP_AFTER and all(outcome in hopeless for outcome in outcomes[-GIVE_UP_AFTER:])
