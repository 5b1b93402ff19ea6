"""Price a plan, and count a run's spend so far. No I/O.

Costs that grow with calls are counted (compute by billed time, requests, the REST API), and provisioned environments,
which cost by the hour. The report adds storage and logs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from core.configuration import Configuration
from core.money.charges import load_tasks_usd, network_traffic_usd, provisioned_usd, restore_usd, snapshot_usd
from core.money.prices import Prices, gb_seconds
from core.run.records import NEVER_INVOKED, PROVISIONED, ClientRecord
from core.variants import Variant
from experiments.plan import Step

INIT_CPU_MS: Final = 2500.0  # import and load; the init phase has its own CPU share at every memory size
# Guest CPUs above which TensorFlow gains nothing from a larger share on one image.
USEFUL_VCPU: Final = 2.0
# An init phase is stopped after 10 s, and the function's timeout counts from the invoke phase on; images are billed for
# both. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
LONGEST_INIT_S: Final = 10.0
LONGEST_SNAPSHOT_INIT_S: Final = 130.0
TASK_START_S: Final = 120.0  # assumed: a Fargate task is billed from the pull of its image on
ROUND_TRIP_MS: Final = 40.0
FORCED_UPDATE_MS: Final = 3000.0
# Assumed, with its snapshot or its provisioned environments: AWS publishes no figure for how long it takes.
PUBLISH_MS: Final = 120_000.0

_BILLED: Final = re.compile(r'Billed Duration: (\d+) ms|"billedDurationMs"\s*:\s*(\d+)')


def usd(amount: float) -> str:
    """An amount for people: in cents, or with two significant digits below a cent."""
    return f"{amount:.2f} USD" if amount >= 0.1 or amount <= 0 else f"{amount:.2g} USD"


def expected_billed_ms(configuration: Configuration, variant: Variant, *, cold: bool) -> float:
    """Return the expected billed time of one call, from its CPU time and its CPU share."""
    model = configuration.model(variant.model)
    share = min(variant.vcpu_share, USEFUL_VCPU)
    warm = model.warm_cpu_ms / share
    # The init of a snapshot is billed when its version is published; a call that spills over waits for one.
    init_ms = 0.0 if variant.start == "snapstart" else INIT_CPU_MS
    return init_ms + model.first_cpu_ms / share + warm if cold else warm


@dataclass(frozen=True)
class Estimate:
    """A plan in figures."""

    calls: int
    duration_s: float
    expected_usd: float
    longest_usd: float  # every call billed as long as Lambda lets it run
    under_way_usd: float  # calls that may be in progress and not counted yet at one moment; billed as long
    side_by_side: bool = False  # with other variants, whose calls are in progress at the same moment

    def upper_usd(self, limit_usd: float) -> float:
        """Upper bound: a run stops when its cost reaches the limit, and pays for the calls in progress."""
        return min(self.longest_usd, limit_usd + self.under_way_usd)


def estimate(step: Step, configuration: Configuration, prices: Prices) -> Estimate:
    """Calls, duration and cost of one step."""
    variant, longest_ms = step.variant, longest_billed_ms(configuration.function.timeout_s)
    cold_ms, warm_ms = (expected_billed_ms(configuration, variant, cold=cold) for cold in (True, False))

    def cost(billed_ms: float, *, provisioned: bool = False) -> float:
        return prices.call_usd(
            variant.memory_mb,
            billed_ms,
            variant.architecture,
            through_gateway=step.through_gateway,
            provisioned=provisioned,
        )

    fee_usd = restore_usd(variant.memory_mb, prices) if variant.start == "snapstart" else 0.0
    update_usd = forced_update_usd(configuration, variant, prices)
    longest_update_usd = forced_update_usd(
        configuration, variant, prices, init_ms=longest_snapshot_ms(configuration.function.timeout_s)
    )
    calls = step.cold_calls + step.warm_calls
    calling_s = step.fixed_s
    if calling_s is None:
        size = int(step.protocol.partition("-")[2] or 1)  # calls of a burst share its time
        cold_s, warm_s = ((billed_ms + ROUND_TRIP_MS) / 1000 for billed_ms in (cold_ms, warm_ms))
        calling_s = step.cold_calls / size * cold_s + step.warm_calls * warm_s
    update_s = (FORCED_UPDATE_MS if variant.alias is None else PUBLISH_MS) / 1000
    duration_s = step.forced_updates * update_s + calling_s
    sending_usd = 0.0
    if step.tasks:
        # Each repeat of a load, which is the only step with tasks, starts its own.
        tasks_s = calling_s + max(1, step.forced_updates) * TASK_START_S
        sending_usd = network_traffic_usd(calls, prices) + load_tasks_usd(
            step.tasks, tasks_s, configuration.matrix.architectures[0], prices
        )
    return Estimate(
        calls=calls,
        duration_s=duration_s,
        expected_usd=sending_usd
        + step.cold_calls * cost(cold_ms)
        + step.warm_calls * cost(warm_ms, provisioned=variant.start == "provisioned")
        + step.forced_updates * update_usd
        + step.cold_calls * fee_usd,
        longest_usd=sending_usd
        + (calls + step.further_calls) * (cost(longest_ms) + fee_usd)
        + (step.forced_updates + step.further_updates) * longest_update_usd,
        under_way_usd=min(calls, step.under_way) * (cost(longest_ms) + fee_usd)
        + min(step.forced_updates, step.under_way) * longest_update_usd,
        side_by_side=step.protocol == "scheduled",
    )


def forced_update_usd(
    configuration: Configuration, variant: Variant, prices: Prices, *, init_ms: float | None = None
) -> float:
    """Return what a forced update costs by itself: nothing on demand.

    With SnapStart, it is a snapshot and the init before it. With provisioned concurrency, it is an init of each
    environment, which has no CPU beyond its share, at the price of on-demand time: an upper bound.
    """
    if variant.start == "on_demand":
        return 0.0
    if init_ms is None:
        share = min(variant.vcpu_share, USEFUL_VCPU) if variant.start == "provisioned" else 1.0
        init_ms = INIT_CPU_MS / share
    init_usd = gb_seconds(variant.memory_mb, init_ms) * prices.gb_second_usd(variant.architecture)
    if variant.start == "provisioned":
        return configuration.provisioned_environments(variant) * init_usd
    return snapshot_usd(variant.memory_mb, prices) + init_usd


def capacity_usd(configuration: Configuration, seconds: float, prices: Prices, *, at_most: bool = False) -> float:
    """Return what all provisioned environments of a deployment cost for this long, called or not.

    With `at_most`, as many as target tracking and schedules may keep.
    """
    return sum(
        provisioned_usd(
            variant.memory_mb,
            configuration.provisioned_environments(variant, at_most=at_most),
            seconds,
            variant.architecture,
            prices,
        )
        for variant in configuration.variants
    )


def whole_plan(planned: Sequence[Step], configuration: Configuration, prices: Prices) -> Estimate:
    """Return the sum of all steps, and of the provisioned environments while they last."""
    whole = total([estimate(step, configuration, prices) for step in planned])
    kept_usd = capacity_usd(configuration, whole.duration_s, prices)
    most_usd = capacity_usd(configuration, whole.duration_s, prices, at_most=True)
    return replace(whole, expected_usd=whole.expected_usd + kept_usd, longest_usd=whole.longest_usd + most_usd)


def total(estimates: Sequence[Estimate]) -> Estimate:
    """The sum; of the calls in progress, those of all schedules or of the other step that has most."""
    together = sum(one.under_way_usd for one in estimates if one.side_by_side)
    return Estimate(
        calls=sum(one.calls for one in estimates),
        duration_s=sum(one.duration_s for one in estimates),
        expected_usd=sum(one.expected_usd for one in estimates),
        longest_usd=sum(one.longest_usd for one in estimates),
        under_way_usd=max([together, *(one.under_way_usd for one in estimates if not one.side_by_side)]),
    )


def billed_ms_in(log_text: str) -> float | None:
    """Billed milliseconds of the last report in a piece of log, Text or JSON format; None where none is there."""
    found = _BILLED.findall(log_text)
    return float(found[-1][0] or found[-1][1]) if found else None


def longest_billed_ms(timeout_s: float) -> float:
    """The longest that one call can be billed. The gateway's 29 s are none: they end the wait, not the function."""
    return (LONGEST_INIT_S + timeout_s) * 1000


def longest_snapshot_ms(timeout_s: float) -> float:
    """Return the longest that an init before a snapshot can be billed.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html
    """
    return max(LONGEST_SNAPSHOT_INIT_S, timeout_s) * 1000


def billed_ms_bound(record: ClientRecord, *, configuration: Configuration, variant: Variant) -> float:
    """At most what a call was billed, from what its caller saw.

    A caller waits longer than the function runs, unless the gateway or the connection gave up before it.
    """
    if record.outcome in NEVER_INVOKED:
        return 0.0
    if record.outcome == "pending":
        return expected_billed_ms(configuration, variant, cold=True)
    if record.outcome in ("gateway_timeout", "connection", "missing") or record.client_latency_ms is None:
        return longest_billed_ms(configuration.function.timeout_s)
    return float(math.ceil(record.client_latency_ms))


class SpendMeter:
    """Adds up what a run has cost; `reached` once that is the limit or more."""

    def __init__(self, configuration: Configuration, prices: Prices) -> None:
        self._configuration = configuration
        self.prices = prices
        self._variants = {variant.key: variant for variant in configuration.variants}
        self.limit_usd = configuration.experiments.max_usd
        self.spent_usd = 0.0
        self._kept_usd_per_s = capacity_usd(configuration, 1.0, prices, at_most=True)
        self._from_s = math.inf  # of the calls counted so far
        self._to_s = -math.inf

    @property
    def reached(self) -> bool:
        return self.spent_usd >= self.limit_usd

    def add(self, record: ClientRecord, *, billed_ms: float | None = None) -> None:
        """Count one call, by its billed time where the log told it, else by the bound its caller's watch gives."""
        variant = self._variants.get(record.variant) or Variant(
            record.model, record.engine, record.architecture, record.memory_mb
        )
        if billed_ms is None:
            billed_ms = billed_ms_bound(record, configuration=self._configuration, variant=variant)
        self._count_capacity(record.intended_at)
        through_gateway = record.trigger == "api"
        if record.outcome not in NEVER_INVOKED:
            self.spent_usd += self.prices.call_usd(
                record.memory_mb,
                billed_ms,
                record.architecture,
                through_gateway=through_gateway,
                # A call that does not say where it ran may have spilled over, which costs more.
                provisioned=record.handler is not None and record.handler.initialization == PROVISIONED,
            )
            if variant.start == "snapstart" and (record.handler is None or record.handler.cold):
                self.spent_usd += restore_usd(variant.memory_mb, self.prices)
        elif record.outcome == "throttled" and through_gateway:
            # Lambda refused the gateway's call, and the gateway's own work is charged. Its own throttles are not, and
            # look alike here: a bound may count them.
            self.spent_usd += self.prices.gateway_request_usd

    def _count_capacity(self, moment_s: float) -> None:
        """Count provisioned environments from the first call to the latest one, pauses of the run included."""
        before_s = max(0.0, self._to_s - self._from_s)
        self._from_s, self._to_s = min(self._from_s, moment_s), max(self._to_s, moment_s)
        self.spent_usd += (self._to_s - self._from_s - before_s) * self._kept_usd_per_s

    def add_forced_update(self, variant: Variant) -> None:
        """Count what a forced update costs by itself."""
        self.spent_usd += forced_update_usd(self._configuration, variant, self.prices)

    def correct(self, variant: Variant, *, assumed_ms: float, billed_ms: float) -> None:
        """Replace the time that was assumed for a call already counted by the one its log says."""
        self.spent_usd += gb_seconds(variant.memory_mb, billed_ms - assumed_ms) * self.prices.gb_second_usd(
            variant.architecture
        )
